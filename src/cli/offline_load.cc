#include "cli/offline_load.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "cli/bench_run.h"

namespace gale::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kWatchInterval = std::chrono::milliseconds(5);

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Counts requests that have not ended, and keeps the first error.
class Outstanding {
 public:
  void Add() {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  void End(const std::optional<Error>& error) {
    const std::lock_guard lock(mutex_);
    --count_;
    if (error && !error_) error_ = error;
    changed_.notify_all();
  }
  /// Whether all have ended by then.
  bool WaitFor(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return count_ == 0; });
  }
  std::optional<Error> error() {
    const std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t count_ = 0;
  std::optional<Error> error_;
};

std::vector<RequestParams> PlannedParams(const std::vector<PlannedRequest>& plan,
                                         const PromptStyle& style, int top_k) {
  std::vector<RequestParams> requests;
  for (const PlannedRequest& planned : plan) {
    RequestParams& request = requests.emplace_back();
    request.prompt = PromptTokens(planned, requests.size() - 1, style);
    request.sampling.temperature = top_k > 0 ? 1 : 0;
    request.sampling.top_k = top_k;
    request.sampling.max_tokens = OutputTokens(planned, style);
    request.sampling.ignore_eos = true;
  }
  return requests;
}

uint64_t Generated(const LoadMoment& moment) { return moment.stats.generated_tokens; }

double KvUse(const EngineStats& stats) {
  if (stats.total_blocks == 0) return 0;
  return 1 - static_cast<double>(stats.free_blocks) / stats.total_blocks;
}

}  // namespace

Result<OfflineRun> RunOffline(LlmEngine& engine, const std::vector<PlannedRequest>& plan,
                              const PromptStyle& style, int top_k) {
  std::vector<RequestParams> requests = PlannedParams(plan, style, top_k);
  OfflineRun run;
  for (const RequestParams& request : requests) {
    run.prompt_tokens += std::ssize(std::get<std::vector<TokenId>>(request.prompt));
    run.output_tokens += request.sampling.max_tokens;
  }
  Outstanding outstanding;
  const Clock::time_point start = Clock::now();
  const auto watch = [&] { run.moments.push_back({SecondsSince(start), engine.stats()}); };
  watch();
  for (size_t i = 0; i < requests.size(); ++i) {
    for (double wait_s; (wait_s = plan[i].start_s - SecondsSince(start)) > 0; watch()) {
      const std::chrono::duration<double> wait(wait_s);
      std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(wait, kWatchInterval));
    }
    outstanding.Add();
    const auto added =
        engine.AddRequest(std::move(requests[i]), [&outstanding](const RequestOutput& output) {
          if (output.finished) outstanding.End(output.error);
        });
    if (!added) outstanding.End(added.error());
    if (outstanding.error()) break;
  }
  while (!outstanding.WaitFor(kWatchInterval)) watch();
  run.total_s = SecondsSince(start);
  watch();
  if (const auto error = outstanding.error()) return tl::unexpected(*error);
  return run;
}

SteadyWindow FindSteadyWindow(const std::vector<LoadMoment>& moments) {
  constexpr double kLeftOut = 0.1;  // at either end
  const auto base = static_cast<double>(Generated(moments.front()));
  const double all = static_cast<double>(Generated(moments.back())) - base;
  const auto is_before = [&](double share) {
    return [=](const LoadMoment& moment) {
      return static_cast<double>(Generated(moment)) < base + share * all;
    };
  };
  auto begin = std::ranges::partition_point(moments, is_before(kLeftOut));
  auto end = std::ranges::partition_point(moments, is_before(1 - kLeftOut));
  if (end == moments.end() || end->stats.steps == begin->stats.steps) {  // too short to tell
    begin = moments.begin();
    end = moments.end() - 1;
  }
  const auto over = [&](auto value) {
    return static_cast<double>(value(end->stats)) - static_cast<double>(value(begin->stats));
  };
  SteadyWindow window;
  window.seconds = end->at_s - begin->at_s;
  window.output_tokens = over([](const EngineStats& s) { return s.generated_tokens; });
  window.prompt_tokens = over([](const EngineStats& s) { return s.prompt_tokens; });
  window.steps = over([](const EngineStats& s) { return s.steps; });
  window.busy_s = over([](const EngineStats& s) { return s.device_busy_s; });
  double batches = 0;
  double kv_uses = 0;
  for (auto moment = begin; moment != end; ++moment) {
    const EngineStats& now = (moment + 1)->stats;
    const auto steps = static_cast<double>(now.steps - moment->stats.steps);
    batches += steps * now.running_seqs;
    kv_uses += steps * KvUse(now);
    window.max_batch = std::max(window.max_batch, now.running_seqs);
    window.max_kv_use = std::max(window.max_kv_use, KvUse(now));
  }
  window.batch = batches / std::max(window.steps, 1.0);
  window.kv_use = kv_uses / std::max(window.steps, 1.0);
  return window;
}

SerialRoofline FindSerialRoofline(const LlmEngine& engine, const SteadyWindow& window,
                                  const DeviceSpeed& limits) {
  const ModelInfo& info = engine.model_info();
  const double tokens = window.prompt_tokens + window.output_tokens;
  const double step_tokens = tokens / std::max(window.steps, 1.0);
  const double table = static_cast<double>(info.vocab_size) * info.hidden_size;
  double met = static_cast<double>(info.num_parameters) - (info.tied_embeddings ? 1 : 2) * table;
  if (info.num_experts > 0) {
    const double chosen = static_cast<double>(info.experts_per_token) / info.num_experts;
    met -= static_cast<double>(info.expert_parameters) * (1 - chosen);
  }
  const double step_weights = StepWeightBytes(engine, step_tokens);
  const double step_kv = window.kv_use * static_cast<double>(engine.config().kv_cache_bytes);
  const double products = 2 * (tokens * met + window.output_tokens * table);
  return {.weights_s = window.steps * step_weights / limits.read_bytes_per_s,
          .kv_s = window.steps * step_kv / limits.read_bytes_per_s,
          .products_s = products / limits.product_flop_per_s};
}

}  // namespace gale::cli
