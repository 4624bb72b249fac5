#include "engine/generate.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace gale {
namespace {

RequestOutput Refused(Error error) {
  RequestOutput output;
  output.finished = true;
  output.samples.emplace_back().finish_reason = FinishReason::kError;
  output.error = std::move(error);
  return output;
}

/// Counts the requests that have been added and not finished.
class Running {
 public:
  void Begin() {
    std::lock_guard lock(mutex_);
    ++count_;
  }
  void End() {
    std::lock_guard lock(mutex_);
    --count_;
    changed_.notify_all();
  }
  /// Waits until at most `count` run.
  void WaitForAtMost(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return count_ <= count; });
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t count_ = 0;
};

}  // namespace

void MergeOutput(const RequestOutput& delta, RequestOutput& whole) {
  std::vector<SampleOutput> samples = std::move(whole.samples);
  for (const SampleOutput& news : delta.samples) {
    auto found = std::ranges::lower_bound(samples, news.index, {}, &SampleOutput::index);
    if (found == samples.end() || found->index != news.index) {
      found = samples.insert(found, SampleOutput());
      found->index = news.index;
    }
    found->text += news.text;
    found->tokens.insert(found->tokens.end(), news.tokens.begin(), news.tokens.end());
    found->logprobs.insert(found->logprobs.end(), news.logprobs.begin(), news.logprobs.end());
    found->cumulative_logprob = news.cumulative_logprob;
    found->finish_reason = news.finish_reason;
  }
  whole = delta;
  whole.samples = std::move(samples);
}

std::vector<RequestOutput> GenerateAll(LlmEngine& engine, std::vector<RequestParams> requests) {
  std::vector<RequestOutput> results(requests.size());
  Running running;
  for (size_t i = 0; i < requests.size(); ++i) {
    const OutputCallback on_output = [&running, &result = results[i]](const RequestOutput& output) {
      MergeOutput(output, result);
      if (output.finished) running.End();
    };
    while (true) {
      const size_t before = running.count();
      running.Begin();
      Result<RequestId> added = engine.AddRequest(requests[i], on_output);
      if (added) break;
      running.End();
      const bool queue_is_full = added.error().code == ErrorCode::kResourceExhausted;
      if (!queue_is_full || before == 0) {
        results[i] = Refused(std::move(added).error());
        break;
      }
      running.WaitForAtMost(before - 1);
    }
  }
  running.WaitForAtMost(0);
  return results;
}

}  // namespace gale
