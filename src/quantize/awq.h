// AWQ: inputs that matter get finer steps, by scaling their columns up before rounding and what
// produces them down; then each group's range is clipped where that loses less than it gains.
// Source: Lin et al. 2023 (arXiv:2306.00978).
#pragma once

#include <span>
#include <vector>

#include "quantize/input_statistics.h"
#include "quantize/integer_weight.h"

namespace gale {

/// Input i of a layer is made by output `producer[i]` of what stands in front of it; inputs with
/// one producer share a scale.
using ProducerMap = std::vector<int64_t>;

/// Factors of the inputs, [in]: of s = mean|x|^alpha for alpha in [0, 1), the one whose rounded
/// weights Q(W s) / s have the least OutputError, over all `weights` [out, in] that read these
/// inputs; at most 512 of each one's outputs are tried.
/// Cost: 20 * (at most 512 outputs a weight) * in^2 multiply-adds.
Vector FindAwqScales(std::span<const Matrix* const> weights, const InputStatistics& inputs,
                     const ProducerMap& producer, const IntegerFormat& format, ThreadPool& threads);

/// Clamps each group of a row to the largest of ten shares of its magnitude, 1 to 0.55, whose
/// rounded group has the least error for inputs of this Gram matrix.
/// Cost: 10 * out * in * group multiply-adds.
void ClipGroups(Matrix& weight, const Matrix& gram, const IntegerFormat& format,
                ThreadPool& threads);

}  // namespace gale
