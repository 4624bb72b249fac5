// Two models' next-token distributions at one position. Used by CompareModels.
#pragma once

#include <cstdint>
#include <span>

#include "gale/sampling_params.h"

namespace gale {

struct RowComparison {
  double kl = 0;  ///< sum of p * ln(p / q), p of the base; infinite when q lacks what p has
  double base_logprob = 0;  ///< of the target
  double other_logprob = 0;
  TokenId base_top = 0;
  TokenId other_top = 0;
};

/// `base` and `other` are logits over one vocabulary, f32 [vocab]. Sums in double.
RowComparison CompareRows(std::span<const float> base, std::span<const float> other,
                          TokenId target);

}  // namespace gale
