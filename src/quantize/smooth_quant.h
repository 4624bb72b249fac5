// SmoothQuant: outliers of a layer's inputs move into its weights, where 8 bits hold them better.
// Source: Xiao et al. 2022 (arXiv:2211.10438), equation 4.
#pragma once

#include <span>

#include "quantize/input_statistics.h"

namespace gale {

/// What the columns of `weights` [out, in], which read the same inputs, are multiplied by:
/// max|x|^strength / max|w|^(1 - strength), at least 1e-5. `strength` in [0, 1].
Vector FindSmoothingScales(std::span<const Matrix* const> weights, const InputStatistics& inputs,
                           double strength);

}  // namespace gale
