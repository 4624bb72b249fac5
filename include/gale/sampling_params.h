// How the next token is chosen and when generation stops. Part of a request; immutable once added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gale/status.h"

namespace gale {

using TokenId = int32_t;

/// Filters apply in this order: temperature, top-k, top-p, min-p; then one draw.
struct SamplingParams {
  float temperature = 1.0F;       ///< 0 = greedy; >= 0
  int top_k = 0;                  ///< keep the k likeliest tokens; 0 = off
  float top_p = 1.0F;             ///< nucleus: smallest set with mass >= top_p; (0, 1], 1 = off
                                  ///< (arXiv:1904.09751)
  float min_p = 0.0F;             ///< drop tokens under min_p * max probability; [0, 1], 0 = off
                                  ///< (arXiv:2407.01082)
  std::optional<uint64_t> seed;   ///< same seed, prompt and parameters: same tokens; unset = drawn
                                  ///< per request
  int n = 1;                      ///< independent samples of one prompt; [1, 1024]
  int max_tokens = 256;           ///< generated tokens per sample; >= 0 (0: prompt logprobs only)
  bool ignore_eos = false;        ///< keep going past the model's end-of-sequence tokens
  std::vector<std::string> stop;  ///< finish before the first of these strings; may cross token
                                  ///< borders
  std::vector<TokenId> stop_token_ids;  ///< finish at any of these, beside the model's own
  bool include_stop = false;            ///< keep the stop string in the text
  std::optional<int> logprobs;  ///< per generated token: its logprob and the `logprobs` likeliest;
                                ///< [0, 20]
  std::optional<int> prompt_logprobs;  ///< the same for prompt tokens; reads no prefix cache

  /// Checks every range above; the error names the field, its range and the value.
  Status Validate() const;
};

}  // namespace gale
