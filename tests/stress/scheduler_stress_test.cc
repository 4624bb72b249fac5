// The control column under random load, on models that exist only as KV groups: whatever is
// scheduled, forked, preempted, swapped, speculated or cancelled, every sequence must say what it
// would say alone, end exactly once, and leave nothing behind.
//
// GALE_STRESS_REQUESTS sets the number of requests per scenario (default 400; far fewer miss
// what a scenario is for, and the test says so).

#include <atomic>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/scheduler.h"
#include "stress/fake_executor.h"

namespace gale {
namespace {

constexpr int kVocab = 50;
constexpr TokenId kEos = 7;

struct Scenario {
  std::string name;
  std::vector<KvGroup> groups;
  int num_blocks = 64;
  int num_host_blocks = 0;
  bool overlap = false;
  SchedulerConfig scheduler = {
      .max_num_seqs = 8, .max_num_batched_tokens = 48, .max_model_len = 160};
  bool enable_prefix_cache = true;
  bool is_tight = true;  ///< preemptions must happen
};

/// What a simulation has put to the test.
struct Coverage {
  size_t num_copies = 0;
  size_t num_swapped_in = 0;
  size_t num_drafts = 0;
  size_t num_embeddings = 0;
  size_t num_late = 0;
  size_t num_decodes_of_unknown = 0;  ///< from a token that the host did not know
};

KvGroup Full(int block_tokens) { return {.kind = KvKind::kFull, .block_tokens = block_tokens}; }
KvGroup Window(int block_tokens, int window) {
  return {.kind = KvKind::kSlidingWindow, .block_tokens = block_tokens, .window = window};
}
KvGroup Recurrent(int block_tokens) {
  return {.kind = KvKind::kRecurrent, .block_tokens = block_tokens};
}

int NumRequests() {
  const char* text = std::getenv("GALE_STRESS_REQUESTS");
  return text == nullptr ? 400 : std::atoi(text);
}

/// A request as the client sees it.
struct Client {
  std::shared_ptr<Request> request;
  struct Sample {
    std::vector<TokenId> tokens;
    int num_ends = 0;
    FinishReason reason = FinishReason::kNone;
    bool was_stopped = false;  ///< by the output side
  };
  std::vector<Sample> samples;
  int num_prompt_logprobs = 0;
};

class Simulation {
 public:
  Simulation(const Scenario& scenario, uint64_t seed)
      : scenario_(scenario),
        random_(seed),
        scheduler_(scenario.scheduler, KvConfig(scenario)),
        executor_({scenario.groups}, scenario.num_blocks, scenario.num_host_blocks, kVocab) {}

  /// Runs `num_requests` to their ends; cancels come from this thread unless `cancel` is false.
  void Run(int num_requests, bool cancel = true) {
    while (num_added_ < num_requests || scheduler_.HasWork()) {
      if (num_added_ < num_requests && scheduler_.stats().waiting_seqs < 20 && Chance(0.4))
        AddRandom();
      if (cancel && Chance(0.02)) CancelRandom();
      if (Chance(0.02)) StopRandom();
      Step();
      if (::testing::Test::HasFatalFailure()) return;
    }
    while (!in_flight_.empty()) CollectOldest();
    CheckEnd();
  }

  /// Cancels some request that is still running; may be called from any thread.
  void CancelAny(uint64_t choice) {
    const std::lock_guard lock(live_mutex_);
    if (!live_.empty()) live_[choice % live_.size()]->cancelled = true;
  }

  SchedulerStats stats() const { return scheduler_.stats(); }
  const Coverage& coverage() const { return coverage_; }

 private:
  static KvCacheConfig KvConfig(const Scenario& scenario) {
    KvCacheConfig config;
    config.spec.groups = scenario.groups;
    config.num_blocks = scenario.num_blocks;
    config.num_host_blocks = scenario.num_host_blocks;
    config.enable_prefix_cache = scenario.enable_prefix_cache;
    return config;
  }

  int Uniform(int low, int high) { return std::uniform_int_distribution(low, high)(random_); }
  bool Chance(double p) { return std::bernoulli_distribution(p)(random_); }

  void AddRandom() {
    auto request = std::make_shared<Request>();
    request->id = ++num_added_;
    // Few beginnings, so that prefixes are often shared.
    const int shared = Uniform(0, 60);
    const int beginning = Uniform(0, 2);
    for (int i = 0; i < shared; ++i) request->prompt.push_back((i * 7 + beginning) % kVocab);
    const int own = Uniform(shared == 0 ? 1 : 0, 40);
    for (int i = 0; i < own; ++i) request->prompt.push_back(Uniform(0, kVocab - 1));
    request->priority = Uniform(0, 5) == 0 ? -1 : 0;
    request->cache_salt = Uniform(0, 9) == 0 ? "other" : "";
    request->client = std::string(1, static_cast<char>('a' + Uniform(0, 2)));
    if (Uniform(0, 14) == 0) request->deadline_s = now_s_ + Uniform(1, 200);
    if (Uniform(0, 11) == 0) {
      request->task = TaskKind::kEmbed;
      request->pooling = Uniform(0, 1) == 0 ? Pooling::kLast : Pooling::kMean;
      request->sampling.max_tokens = 0;
    } else {
      request->sampling.n = Uniform(0, 3) == 0 ? Uniform(2, 4) : 1;
      request->sampling.max_tokens = Uniform(0, 9) == 0 ? 0 : Uniform(1, 60);
      if (Uniform(0, 7) == 0 || request->sampling.max_tokens == 0)
        request->sampling.prompt_logprobs = 0;
    }
    if (Uniform(0, 1) == 0) request->stop_token_ids = {kEos};
    Client& client = clients_[request->id];
    client.request = request;
    client.samples.resize(request->sampling.n);
    scheduler_.Add(request);
    const std::lock_guard lock(live_mutex_);
    live_.push_back(std::move(request));
  }

  void CancelRandom() { CancelAny(random_()); }

  void StopRandom() {
    if (last_seen_ == 0) return;
    stopped_.insert(last_seen_);
    scheduler_.Finish(last_seen_, FinishReason::kStop);
    last_seen_ = 0;
  }

  void Step() {
    SchedulerOutput plan = scheduler_.Schedule(++now_s_);
    CheckPlan(plan);
    const bool has_plan = !plan.seqs.empty();
    const size_t num_before = num_updates_;
    if (has_plan) {
      const StepHandle handle = executor_.Launch(plan);
      executor_.Sample(handle, {});
      in_flight_.push_back(std::move(plan));
    } else {
      Deliver(scheduler_.TakeUpdates());
    }
    CheckIntegrity();
    const size_t allowed = scenario_.overlap && has_plan ? 1 : 0;
    ASSERT_TRUE(has_plan || !in_flight_.empty() || num_updates_ > num_before ||
                !scheduler_.HasWork())
        << "stuck: nothing to run, nothing in flight, work left";
    while (in_flight_.size() > allowed) CollectOldest();
    CheckIntegrity();
  }

  void CollectOldest() {
    const SchedulerOutput plan = std::move(in_flight_.front());
    in_flight_.pop_front();
    Result<ModelRunnerOutput> output = executor_.Collect({plan.step});
    ASSERT_TRUE(output);
    Deliver(scheduler_.Update(plan, *std::move(output)));
  }

  void CheckPlan(const SchedulerOutput& plan) {
    ASSERT_LE(plan.TotalTokens(), scenario_.scheduler.max_num_batched_tokens);
    ASSERT_LE(static_cast<int>(plan.seqs.size()), scenario_.scheduler.max_num_seqs);
    ASSERT_LE(scheduler_.stats().running_seqs, scenario_.scheduler.max_num_seqs);
    std::set<SeqId> ids;
    for (const ScheduledSeq& seq : plan.seqs) {
      ASSERT_TRUE(ids.insert(seq.id).second);
      coverage_.num_drafts += seq.draft.num_tokens;
      coverage_.num_decodes_of_unknown += IsInFlight(seq.id) && seq.num_tokens == 1 ? 1 : 0;
    }
    coverage_.num_copies += plan.copies.size();
    coverage_.num_swapped_in += plan.swap_in.size();
  }

  bool IsInFlight(SeqId id) const {
    for (const SchedulerOutput& plan : in_flight_) {
      for (const ScheduledSeq& seq : plan.seqs) {
        if (seq.id == id && seq.sample) return true;
      }
    }
    return false;
  }

  void CheckIntegrity() {
    const Status status = scheduler_.kv_cache().CheckIntegrity();
    ASSERT_TRUE(status) << status.error().message;
    ASSERT_EQ(executor_.violation(), "");
  }

  void Deliver(std::vector<SequenceUpdate> updates) {
    num_updates_ += updates.size();
    for (SequenceUpdate& update : updates) {
      Client& client = clients_.at(update.request->id);
      Client::Sample& sample = client.samples.at(update.sample_index);
      ASSERT_EQ(sample.num_ends, 0) << "news after the end";
      sample.tokens.insert(sample.tokens.end(), update.tokens.begin(), update.tokens.end());
      for (const PositionLogprobs& logprobs : update.prompt_logprobs) {
        ASSERT_EQ(update.sample_index, 0);
        const int position = ++client.num_prompt_logprobs;
        ASSERT_EQ(logprobs.chosen.token, client.request->prompt.at(position));
        ASSERT_EQ(logprobs.chosen.logprob, static_cast<float>(position));
      }
      const bool may_stop = update.finish_reason == FinishReason::kNone && !update.tokens.empty();
      last_seen_ = may_stop ? update.id : 0;
      if (update.finish_reason == FinishReason::kNone) continue;
      ++sample.num_ends;
      if (update.finish_reason == FinishReason::kLength)
        CheckPooled(*client.request, update.pooled);
      sample.reason = update.finish_reason;
      sample.was_stopped = stopped_.contains(update.id);
      if (update.finish_reason == FinishReason::kError) CheckError(update);
      if (++num_ends_[update.request->id] == update.request->sampling.n) Forget(*update.request);
    }
  }

  void Forget(const Request& request) {
    const std::lock_guard lock(live_mutex_);
    std::erase_if(live_, [&](const auto& live) { return live->id == request.id; });
  }

  /// Every state that belongs into it, once.
  void CheckPooled(const Request& request, const std::vector<float>& pooled) {
    if (request.task != TaskKind::kEmbed) return;
    const auto count = static_cast<float>(request.prompt.size());
    const bool is_mean = request.pooling == Pooling::kMean;
    ASSERT_EQ(pooled.size(), 2U);
    ASSERT_EQ(pooled[0], is_mean ? count : 1);
    ASSERT_EQ(pooled[1], is_mean ? count * (count - 1) / 2 : count - 1);
    ++coverage_.num_embeddings;
  }

  /// Only what cannot fit into an empty cache, or has come to its deadline, may fail.
  void CheckError(const SequenceUpdate& update) {
    ASSERT_TRUE(update.error);
    if (update.error->code == ErrorCode::kDeadlineExceeded) {
      ASSERT_GT(update.request->deadline_s, 0);
      ASSERT_LT(update.request->deadline_s, now_s_);
      ++coverage_.num_late;
      return;
    }
    ASSERT_EQ(update.error->code, ErrorCode::kResourceExhausted);
    const Request& request = *update.request;
    const int most = std::min<int>(request.prompt.size() + request.sampling.max_tokens,
                                   scenario_.scheduler.max_model_len);
    const KvCacheManager& kv = scheduler_.kv_cache();
    ASSERT_GT(kv.BlocksToHold(most), kv.num_total());
  }

  /// What the sample says alone.
  Client::Sample Alone(const Request& request, int sample_index) const {
    Client::Sample sample;
    uint64_t hash = 0;
    for (const TokenId token : request.prompt) hash = ExtendHash(hash, token);
    const int most = std::min<int>(request.sampling.max_tokens,
                                   scenario_.scheduler.max_model_len - request.prompt.size());
    while (sample.reason == FinishReason::kNone) {
      if (static_cast<int>(sample.tokens.size()) >= most) {
        sample.reason = FinishReason::kLength;
        break;
      }
      sample.tokens.push_back(FakeToken(hash, sample_index, kVocab));
      hash = ExtendHash(hash, sample.tokens.back());
      if (!request.stop_token_ids.empty() && sample.tokens.back() == kEos) {
        sample.reason = FinishReason::kStop;
      }
    }
    return sample;
  }

  void CheckEnd() {
    for (const auto& [id, client] : clients_) {
      const Request& request = *client.request;
      bool is_whole = true;
      for (int i = 0; i < request.sampling.n; ++i) {
        const Client::Sample& sample = client.samples[i];
        const Client::Sample alone = Alone(request, i);
        ASSERT_EQ(sample.num_ends, 1) << "request " << id << " sample " << i;
        const bool is_cut = sample.was_stopped || sample.reason == FinishReason::kCancelled ||
                            sample.reason == FinishReason::kError;
        is_whole &= !is_cut;
        if (is_cut) {
          ASSERT_LE(sample.tokens.size(), alone.tokens.size());
          ASSERT_TRUE(std::equal(sample.tokens.begin(), sample.tokens.end(), alone.tokens.begin()))
              << "request " << id << " sample " << i;
        } else {
          ASSERT_EQ(sample.tokens, alone.tokens) << "request " << id << " sample " << i;
          ASSERT_EQ(sample.reason, alone.reason) << "request " << id << " sample " << i;
        }
      }
      if (is_whole && request.sampling.prompt_logprobs) {
        ASSERT_EQ(client.num_prompt_logprobs, static_cast<int>(request.prompt.size()) - 1);
      }
    }
    const SchedulerStats stats = scheduler_.stats();
    EXPECT_EQ(stats.running_seqs, 0);
    EXPECT_EQ(stats.waiting_seqs, 0);
    const KvCacheManager& kv = scheduler_.kv_cache();
    EXPECT_EQ(kv.num_free(), kv.num_total());
    EXPECT_EQ(kv.num_retiring(), 0);
    EXPECT_EQ(kv.num_host_free(), std::max(scenario_.num_host_blocks - 1, 0));
    CheckIntegrity();
  }

  const Scenario scenario_;
  std::mt19937_64 random_;
  Scheduler scheduler_;
  FakeExecutor executor_;
  std::deque<SchedulerOutput> in_flight_;
  std::map<RequestId, Client> clients_;
  std::map<RequestId, int> num_ends_;
  std::set<SeqId> stopped_;
  std::mutex live_mutex_;
  std::vector<std::shared_ptr<Request>> live_;
  int num_added_ = 0;
  double now_s_ = 0;
  Coverage coverage_;
  size_t num_updates_ = 0;
  SeqId last_seen_ = 0;
};

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> list;
  const auto add = [&](std::string name, std::vector<KvGroup> groups, int num_blocks) -> Scenario& {
    Scenario scenario;
    scenario.name = std::move(name);
    scenario.groups = std::move(groups);
    scenario.num_blocks = num_blocks;
    return list.emplace_back(std::move(scenario));
  };
  add("Full", {Full(4)}, 400).is_tight = false;
  add("FullTinyPool", {Full(4)}, 48);
  add("FullTooSmallForSome", {Full(4)}, 22);
  add("FullNoPrefixCache", {Full(8)}, 40).enable_prefix_cache = false;
  add("FullSwap", {Full(4)}, 48).num_host_blocks = 60;
  add("Window", {Full(4), Window(4, 10)}, 110);
  add("WindowAlone", {Window(8, 24)}, 36).is_tight = false;  // what has left the window is free
  add("WindowUnequalBlocks", {Full(8), Window(4, 9)}, 80);
  add("WindowSwap", {Full(4), Window(4, 10)}, 110).num_host_blocks = 50;
  add("Recurrent", {Full(4), Recurrent(4)}, 60);
  add("RecurrentAlone", {Recurrent(4)}, 9).is_tight = false;  // never grows
  add("RecurrentSwap", {Full(4), Recurrent(4)}, 52).num_host_blocks = 70;
  SchedulerConfig& drafts = add("DraftGroup", {Full(4), Full(4)}, 110).scheduler;
  drafts.max_draft_tokens = 3;
  drafts.adaptive_drafts = false;
  SchedulerConfig& more_drafts =
      add("DraftWindow", {Full(4), Window(4, 10), Full(8)}, 140).scheduler;
  more_drafts.max_draft_tokens = 4;
  more_drafts.adaptive_drafts = false;
  add("NarrowBudget", {Full(4)}, 60).scheduler = {
      .max_num_seqs = 8, .max_num_batched_tokens = 5, .max_model_len = 120};
  Scenario& turns = add("Turns", {Full(4)}, 200);
  turns.scheduler.fairness = Fairness::kTurns;
  turns.scheduler.first_turn_tokens = 6;
  turns.scheduler.max_num_seqs = 4;
  Scenario& shares = add("SharesSwap", {Full(4), Window(4, 10)}, 110);
  shares.scheduler.fairness = Fairness::kShares;
  shares.num_host_blocks = 50;
  Scenario& one = add("OneSequence", {Full(4)}, 64);
  one.scheduler = {.max_num_seqs = 1, .max_num_batched_tokens = 16, .max_model_len = 120};
  one.is_tight = false;
  const size_t num_synchronous = list.size();
  for (size_t i = 0; i < num_synchronous; ++i) {
    Scenario scenario = list[i];
    scenario.name += "Overlapped";
    scenario.overlap = true;
    list.push_back(std::move(scenario));
  }
  return list;
}

class SchedulerStressTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(SchedulerStressTest, EverySequenceSaysWhatItSaysAlone) {
  for (const uint64_t seed : {1, 2}) {
    SCOPED_TRACE(seed);
    Simulation simulation(GetParam(), seed);
    simulation.Run(NumRequests());
    if (HasFatalFailure()) return;
    EXPECT_GT(simulation.stats().generated_tokens, 0U);
    EXPECT_EQ(simulation.stats().cached_tokens > 0, GetParam().enable_prefix_cache);
    if (GetParam().is_tight) {
      EXPECT_GT(simulation.stats().preemptions, 0U);
    }
    const Coverage& coverage = simulation.coverage();
    EXPECT_EQ(coverage.num_copies > 0, GetParam().scheduler.max_num_seqs > 1);
    EXPECT_EQ(coverage.num_swapped_in > 0, GetParam().num_host_blocks > 0);
    EXPECT_GT(coverage.num_embeddings, 0U);
    EXPECT_GT(coverage.num_late, 0U);
    EXPECT_EQ(coverage.num_drafts > 0, GetParam().scheduler.max_draft_tokens > 0);
    EXPECT_EQ(coverage.num_decodes_of_unknown > 0, GetParam().overlap);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SchedulerStressTest, ::testing::ValuesIn(Scenarios()),
                         [](const auto& scenario) { return scenario.param.name; });

TEST(SchedulerThreadsTest, CancelsFromOtherThreads) {
  for (const bool overlap : {false, true}) {
    Scenario scenario;
    scenario.groups = {Full(4), Window(4, 10)};
    scenario.num_blocks = 110;
    scenario.overlap = overlap;
    Simulation simulation(scenario, 3);
    std::atomic<bool> done = false;
    std::vector<std::thread> clients;
    for (int i = 0; i < 3; ++i) {
      clients.emplace_back([&, i] {
        std::mt19937_64 random(i);
        while (!done) {
          simulation.CancelAny(random());
          std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
      });
    }
    simulation.Run(NumRequests(), /*cancel=*/false);
    done = true;
    for (std::thread& client : clients) client.join();
  }
}

}  // namespace
}  // namespace gale
