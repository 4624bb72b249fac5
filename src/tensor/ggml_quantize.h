// From numbers to ggml's blocks (see ggml_block.h). Layer L1a; called where weights are quantized
// while a model loads, and by tests.
#pragma once

#include <cstddef>

#include "tensor/ggml_block.h"

namespace gale {

/// Round to nearest, ties to even; above the range infinite, NaN stays NaN.
F16 ToF16(float x);

/// The block of `type`, Q8_0 or Q4_0, that stands for kGgmlBlockElements numbers.
/// Q8_0 divides by the largest magnitude / 127. Of Q4_0 the scale is the one of a few around the
/// largest number / -8 whose block has the smallest sum of squared errors.
/// Cost: some 40 operations an element for Q4_0, 5 for Q8_0.
void QuantizeBlock(GgmlType type, const float* x, std::byte* block);

}  // namespace gale
