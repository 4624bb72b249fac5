// What quantized weights stand for, in plain numbers: the oracle of kernels' tests, and what a
// device without a kernel for a format computes with. Layer L2 of the compute column.
#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"

namespace gale {

/// Row `row` of a weight of any format in the order of the inputs, f32 [in]. The weight is in host
/// memory. Cost: some operations an element.
void DequantizeRow(const LinearWeight& weight, int64_t row, std::span<float> out);

}  // namespace gale
