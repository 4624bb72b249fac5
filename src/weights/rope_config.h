// The rotary embedding as config.json describes it, all scalings of transformers' kinds.
// Layer L2 of the compute column; part of HfConfig, used by nn/rotary_embedding.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "gale/status.h"

namespace gale {

enum class RopeType {
  kDefault,
  kLinear,    ///< positions divided by `factor` (arXiv:2306.15595)
  kDynamic,   ///< NTK-aware: a larger base for contexts over `original_max_position`
  kYarn,      ///< slow frequencies interpolated, fast ones kept (arXiv:2309.00071)
  kLlama3,    ///< the same by wavelength (arXiv:2407.21783)
  kLongRope,  ///< a divisor for each frequency, from one of two lists (arXiv:2402.13753)
};

/// Rotary embedding as the checkpoint was trained (arXiv:2104.09864).
///
/// kDynamic and kLongRope depend on how long the context is. transformers looks at the longest
/// sequence of the batch, so that a token's logits depend on its neighbours and keys in the cache
/// were rotated by other angles than the query. Here `context` decides, once, when the model is
/// loaded: the same angles for every step.
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  double attention_factor = 1;    ///< multiplies cosines and sines (kYarn, kLongRope)
  int original_max_position = 0;  ///< positions before the scaling
  int context = 0;                ///< positions that the model is loaded for
  // kLlama3: wavelengths over original / low_freq_factor are slowed by `factor`, those under
  // original / high_freq_factor kept, those between blended.
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  // kYarn: turns over the original context from which on a frequency is kept, and up to which it is
  // slowed by `factor`; between them a ramp over the dimensions, whose ends may be whole numbers.
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;
  // kYarn, as DeepSeek writes it; 0: not given. The attention's scale depends on the second.
  double mscale = 0;
  double mscale_all_dim = 0;
  std::vector<float> short_divisors;  ///< kLongRope: [rotary_dim / 2]
  std::vector<float> long_divisors;   ///< kLongRope: [rotary_dim / 2]
  std::vector<float> divisors;  ///< [rotary_dim / 2] of all frequencies, in GGUF files; or empty
};

/// YaRN's temperature for contexts `factor` times as long: 1 + 0.1 weight ln(factor).
double YarnScale(double factor, double weight);

/// Reads the members rope_theta, rope_type and those that belong to the type out of `params`, a
/// config.json's rope_parameters or rope_scaling, or one of their parts for a kind of layers.
/// `rope` holds what stands outside of it: theta, original_max_position and context.
/// Errors: kDataCorrupt naming the field; kUnsupported for another type.
Result<RopeConfig> ParseRopeParams(const JsonObject& params, RopeConfig rope, int rotary_dim);

}  // namespace gale
