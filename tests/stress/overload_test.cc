// A server that is asked for more than it can do: the scheduler on a simulated device, in simulated
// time. What long answers cost those who want a short one depends on who goes first.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/scheduler.h"

namespace gale {
namespace {

constexpr TokenId kEnd = 1;
constexpr int kBlockTokens = 16;
constexpr int kMaxTokens = 1500;

/// Lengths are lognormal, as recorded traffic's are nearly; nobody knows the answer's beforehand.
struct Work {
  int prompt_tokens = 0;
  int answer_tokens = 0;
};

std::vector<Work> DrawWork(int count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution prompt(std::log(250.0), 0.8);
  std::lognormal_distribution answer(std::log(120.0), 1.0);
  std::vector<Work> work;
  for (int i = 0; i < count; ++i) {
    work.push_back({.prompt_tokens = std::clamp(static_cast<int>(prompt(random)), 8, 2000),
                    .answer_tokens = std::clamp(static_cast<int>(answer(random)), 1, kMaxTokens)});
  }
  return work;
}

struct Latencies {
  double mean = 0;  ///< seconds per token of the answer, from arrival to end
  double p99 = 0;
  double end_s = 0;
  uint64_t preemptions = 0;
};

/// About Llama-3-8B on one H200: 5 ms to read the weights, 27 us of products for each token, keys
/// and values at 4 TB/s.
double StepSeconds(const SchedulerOutput& plan) {
  double seconds = 5e-3;
  for (const ScheduledSeq& seq : plan.seqs) {
    seconds += 27e-6 * seq.num_tokens;
    if (seq.num_tokens == 1) seconds += 32e-9 * seq.begin;
  }
  return seconds;
}

/// Requests come at random moments, `rate` a second; 0: all at once.
Latencies Simulate(Fairness fairness, const std::vector<Work>& work, double rate) {
  KvCacheConfig kv;
  kv.spec.groups = {{.num_layers = 32, .block_tokens = kBlockTokens, .bytes_per_block = 2 << 20}};
  kv.num_blocks = 50000;  // 100 GB
  Scheduler scheduler({.max_num_seqs = 64,
                       .max_num_batched_tokens = 512,
                       .max_model_len = 4096,
                       .fairness = fairness},
                      kv);
  std::mt19937_64 random(3);
  std::exponential_distribution<double> gap(rate > 0 ? rate : 1);
  std::vector<double> arrivals;
  double now_s = 0;
  for (size_t i = 0; i < work.size(); ++i) arrivals.push_back(now_s += rate > 0 ? gap(random) : 0);

  now_s = 0;
  size_t next = 0;
  std::map<RequestId, int> said;
  std::vector<double> normalized;
  while (next < work.size() || scheduler.HasWork()) {
    if (!scheduler.HasWork()) now_s = std::max(now_s, arrivals[next]);
    for (; next < work.size() && arrivals[next] <= now_s; ++next) {
      auto request = std::make_shared<Request>();
      request->id = next;
      for (int i = 0; i < work[next].prompt_tokens; ++i) {
        request->prompt.push_back(static_cast<TokenId>(2 + random() % 30000));
      }
      request->sampling.max_tokens = kMaxTokens;
      request->stop_token_ids = {kEnd};
      scheduler.Add(std::move(request));
    }
    const SchedulerOutput plan = scheduler.Schedule(now_s);
    if (plan.seqs.empty()) continue;
    now_s += StepSeconds(plan);
    ModelRunnerOutput output;
    output.step = plan.step;
    for (const ScheduledSeq& seq : plan.seqs) {
      SeqOutput& drawn = output.seqs.emplace_back();
      drawn.id = seq.id;
      const size_t index = seq.id - 1;  // one sequence a request
      if (!seq.sample) continue;
      const bool is_last = ++said[seq.id] == work[index].answer_tokens;
      drawn.tokens.push_back(is_last ? kEnd : static_cast<TokenId>(2 + random() % 30000));
    }
    for (const SequenceUpdate& update : scheduler.Update(plan, std::move(output))) {
      if (update.finish_reason == FinishReason::kNone) continue;
      const size_t index = update.request->id;
      normalized.push_back((now_s - arrivals[index]) / work[index].answer_tokens);
    }
  }
  Latencies latencies;
  for (const double value : normalized) latencies.mean += value / static_cast<double>(work.size());
  std::ranges::sort(normalized);
  latencies.p99 = normalized[normalized.size() * 99 / 100];
  latencies.end_s = now_s;
  latencies.preemptions = scheduler.stats().preemptions;
  return latencies;
}

TEST(OverloadTest, TurnsKeepShortAnswersFromWaitingForLongOnes) {
  const std::vector<Work> work = DrawWork(2500, 7);
  const double capacity =
      static_cast<double>(work.size()) / Simulate(Fairness::kNone, work, 0).end_s;
  const Latencies first_come = Simulate(Fairness::kNone, work, 1.2 * capacity);
  const Latencies turns = Simulate(Fairness::kTurns, work, 1.2 * capacity);
  for (const auto& [name, run] : {std::pair{"first come", first_come}, {"turns", turns}}) {
    std::printf("%-12s %.3f s per token, p99 %.3f; all done after %.0f s, %d preemptions\n", name,
                run.mean, run.p99, run.end_s, static_cast<int>(run.preemptions));
  }
  EXPECT_LE(turns.mean, 0.6 * first_come.mean);
  EXPECT_LE(turns.p99, first_come.p99);
  EXPECT_LE(turns.end_s, 1.1 * first_come.end_s);  // what giving way costs everybody
  EXPECT_EQ(first_come.preemptions, 0U);
}

}  // namespace
}  // namespace gale
