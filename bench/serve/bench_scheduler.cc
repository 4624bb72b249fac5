// What planning costs between two steps: Schedule and Update with 256 sequences that run and 1,024
// that wait, and what the prefix cache adds where nothing is ever found in it.
// Usage: bench_scheduler [RUNNING [WAITING [STEPS]]]
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "scheduler/scheduler.h"

namespace gale {
namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  int running = 256;
  int waiting = 1024;
  int steps = 2000;
};

/// Prompts of 64 tokens or some more that have nothing in common; each step, one sequence in
/// sixteen fills a block.
std::shared_ptr<Request> MakeRequest(RequestId id, int max_tokens) {
  auto request = std::make_shared<Request>();
  request->id = id;
  const int num_tokens = 64 + static_cast<int>(id % 16);
  for (int i = 0; i < num_tokens; ++i) {
    request->prompt.push_back(
        static_cast<TokenId>((id * 7919 + static_cast<uint64_t>(i) * 31) % 32000));
  }
  request->client = id % 2 == 0 ? "a" : "b";
  request->sampling.max_tokens = max_tokens;
  request->stop_token_ids = {1, 2};
  return request;
}

/// Microseconds of each step of a saturated engine: only decodes, nobody ends.
std::vector<double> Measure(const Load& load, bool prefix_cache, Fairness fairness) {
  KvCacheConfig kv;
  kv.spec.groups = {{.num_layers = 32, .block_tokens = 16, .bytes_per_block = 2 << 20}};
  kv.num_blocks = (load.running + 1) * (load.steps / 16 + 16);
  kv.enable_prefix_cache = prefix_cache;
  Scheduler scheduler({.max_num_seqs = load.running,
                       .max_num_batched_tokens = 8192,
                       .max_model_len = load.steps + 200,
                       .fairness = fairness,
                       .first_turn_tokens = load.steps + 200,
                       .max_step_stretch = 3.6},
                      kv);
  for (int i = 0; i < load.running + load.waiting; ++i) {
    scheduler.Add(MakeRequest(static_cast<RequestId>(i + 1), load.steps + 100));
  }
  std::vector<double> times;
  for (int step = 0; step < load.steps; ++step) {
    Clock::time_point begin = Clock::now();
    const SchedulerOutput plan = scheduler.Schedule(1);
    std::chrono::duration<double, std::micro> spent = Clock::now() - begin;
    ModelRunnerOutput output;  // the runner's part
    output.step = plan.step;
    output.device_s = 10e-3;
    for (const ScheduledSeq& seq : plan.seqs) {
      SeqOutput& drawn = output.seqs.emplace_back();
      drawn.id = seq.id;
      if (seq.sample) {
        drawn.tokens.push_back(static_cast<TokenId>(10 + (seq.id * 31 + plan.step * 17) % 30000));
      }
    }
    begin = Clock::now();
    const auto updates = scheduler.Update(plan, std::move(output));
    spent += Clock::now() - begin;
    if (step >= 100) times.push_back(spent.count());
  }
  std::ranges::sort(times);
  return times;
}

int Main(int argc, char** argv) {
  Load load;
  if (argc > 1) load.running = std::atoi(argv[1]);
  if (argc > 2) load.waiting = std::atoi(argv[2]);
  if (argc > 3) load.steps = std::atoi(argv[3]);
  fmt::print("{} running, {} waiting; microseconds a step\n{:<34} {:>8} {:>8} {:>8}\n",
             load.running, load.waiting, "", "p50", "mean", "p99");
  for (const auto& [name, fairness] :
       {std::pair{"first come", Fairness::kNone}, {"turns", Fairness::kTurns}}) {
    for (const bool prefix_cache : {false, true}) {
      const std::vector<double> times = Measure(load, prefix_cache, fairness);
      double sum = 0;
      for (const double time : times) sum += time;
      const auto count = static_cast<double>(times.size());
      fmt::print("{:<34} {:>8.1f} {:>8.1f} {:>8.1f}\n",
                 fmt::format("{}{}", name, prefix_cache ? ", prefix cache without hits" : ""),
                 times[times.size() / 2], sum / count, times[times.size() * 99 / 100]);
    }
  }
  return 0;
}

}  // namespace
}  // namespace gale

int main(int argc, char** argv) { return gale::Main(argc, argv); }
