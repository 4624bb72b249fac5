// Counts what requests took, for EngineMetrics. Layer L5; written by the output thread, read by
// any.
#pragma once

#include <mutex>
#include <span>

#include "gale/engine_metrics.h"
#include "request/sequence.h"

namespace gale {

/// 1, 2, 5, 10, ... up to `most`, which is in.
std::vector<double> TokenBounds(int most);

class RequestMetrics {
 public:
  explicit RequestMetrics(int max_model_len);

  void FirstToken(double since_added_s);
  /// Seconds since each token's predecessor.
  void NextTokens(std::span<const double> gaps_s);
  void End(const Request& request, FinishReason reason, const RequestTimes& times,
           int generated_tokens);
  /// Without step_tokens, which the engine thread counts.
  EngineMetrics Snapshot() const;

 private:
  mutable std::mutex mutex_;
  EngineMetrics metrics_;
};

}  // namespace gale
