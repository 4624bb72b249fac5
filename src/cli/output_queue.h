// Carries outputs from the engine's thread to the command's, and gathers them into whole replies.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gale/llm_engine.h"

namespace gale::cli {

/// Outputs in the order they came. Must outlive the requests that use its callback.
class OutputQueue {
 public:
  OutputQueue();
  OutputQueue(const OutputQueue&) = delete;
  OutputQueue& operator=(const OutputQueue&) = delete;
  ~OutputQueue();

  OutputCallback Callback();
  RequestOutput Pop();                  ///< waits for the next output
  int fd() const { return event_fd_; }  ///< readable while Pop would not wait

 private:
  std::mutex mutex_;
  std::deque<RequestOutput> outputs_;
  int event_fd_;  ///< counts the outputs that wait
};

/// One sample's whole reply.
struct SampleReply {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;
  std::optional<double> cumulative_logprob;
  FinishReason finish_reason = FinishReason::kNone;
};

/// A request's whole reply: the sum of its outputs.
struct Reply {
  std::vector<SampleReply> samples;
  RequestOutput last;  ///< the final output: counts, times, prompt logprobs, error

  void Add(RequestOutput output);
  int64_t generated_tokens() const;
};

/// Runs all requests, batched, and calls `on_done(index, reply)` as each one ends. No more are
/// handed to the engine at a time than it queues.
/// Errors: what `on_done` returned first; the rest is cancelled.
Status RunAll(LlmEngine& engine, const std::vector<RequestParams>& requests,
              const std::function<Status(size_t index, Reply reply)>& on_done);

}  // namespace gale::cli
