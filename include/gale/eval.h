// How well models predict a text, and how far one model's predictions are from another's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "gale/engine_config.h"
#include "gale/sampling_params.h"
#include "gale/status.h"

namespace gale {

/// Tokens [begin, end) of a text go through a model together; those in [scored_begin, end) count.
struct TextWindow {
  size_t begin = 0;
  size_t scored_begin = 0;
  size_t end = 0;
};

/// Windows of at most `window` tokens, `stride` <= window apart, that cover `num_tokens`. Each
/// token is scored once, in the first window that holds it; a window's first token has no prefix
/// and is not scored there (so at stride = window one token per window is left out).
std::vector<TextWindow> CutWindows(size_t num_tokens, size_t window, size_t stride);

struct CompareOptions {
  EngineConfig base;   ///< model, device, dtype, quantize, kv_cache_dtype, numerics, threads; the
                       ///< rest is not read
  EngineConfig other;  ///< the same; the base's checkpoint under other options, or another one
  int window = 0;      ///< tokens that go through together; 0: the shorter context, at most 2,048
  int stride = 0;      ///< 0: the window
  bool add_special_tokens = true;  ///< what the tokenizer adds by itself
  int num_worst = 10;
};

/// A canary for loading: a few rows through the device's kernel for one quantized weight of the
/// model, held against plain sums over the numbers that it stands for. What is wrong, for a
/// warning; empty when nothing is, and for models whose linear layers are not quantized. Cost:
/// reads one weight. Errors: those of loading it.
Result<std::string> CheckQuantizedKernels(const EngineConfig& config);

/// What a model says of a text.
struct TextScore {
  double nll_per_token = 0;  ///< nats
  double perplexity = 0;
};

/// A position where the models disagree.
struct WorstToken {
  size_t index = 0;     ///< of the token in the text
  double kl = 0;        ///< nats
  std::string context;  ///< the text in front of it
  std::string token;    ///< what stands there
  double base_logprob = 0;
  double other_logprob = 0;
  std::string base_top;  ///< what the models think likeliest
  std::string other_top;
};

struct ModelComparison {
  size_t num_tokens = 0;  ///< of the text
  size_t num_scored = 0;
  int window = 0;
  int stride = 0;
  TextScore base;
  TextScore other;
  /// Kullback-Leibler divergence of the other's distribution from the base's, in nats, over the
  /// scored positions.
  double kl_mean = 0;
  double kl_median = 0;
  double kl_p99 = 0;
  double kl_max = 0;
  double top1_agreement = 0;      ///< share of positions where both think the same token likeliest
  std::vector<WorstToken> worst;  ///< by falling KL
};

/// Runs `text` through both models, window by window, and compares the distributions over the whole
/// vocabulary at every scored token. `progress` (may be empty) is given scored tokens done and in
/// total.
/// Memory: both models, and one window's hidden states, keys, values and a tile of logits of each;
/// 4 bytes a token.
/// Errors: those of loading; kInvalidArgument for vocabularies that differ, windows that do not fit
/// and a text of less than two tokens.
Result<ModelComparison> CompareModels(const CompareOptions& options, std::string_view text,
                                      const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace gale
