// What requests took and brought, counted since the engine started. For monitoring.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "gale/request.h"

namespace gale {

/// Counts of values by size.
struct Histogram {
  std::vector<double> bounds;    ///< upper ends, each included, ascending
  std::vector<uint64_t> counts;  ///< one more than bounds: the last has no end
  double sum = 0;

  explicit Histogram(std::vector<double> bounds = {});
  void Observe(double value);
  uint64_t total() const;
};

/// Times are in seconds. A request counts when it ends, tokens when they come.
struct EngineMetrics {
  Histogram time_to_first_token;       ///< AddRequest to the first token
  Histogram inter_token_latency;       ///< from one output with tokens to the next, per sample
  Histogram time_per_output_token;     ///< the mean of a request after its first token
  Histogram e2e_latency;               ///< AddRequest to the last token
  Histogram queue_time;                ///< AddRequest to the first step
  Histogram inference_time;            ///< first step to the last token
  Histogram prefill_time;              ///< first step to the first token
  Histogram decode_time;               ///< first token to the last
  Histogram prompt_tokens;             ///< of a request
  Histogram generation_tokens;         ///< of a request, over its samples
  Histogram max_tokens;                ///< that a request asked for
  Histogram num_samples;               ///< that a request asked for
  Histogram step_tokens;               ///< computed in one step
  std::array<uint64_t, 5> finished{};  ///< requests by the FinishReason of their first sample
};

}  // namespace gale
