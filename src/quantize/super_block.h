// From numbers to ggml's blocks of 256 (see tensor/ggml_block.h). Used by gguf_export.
#pragma once

#include <cstddef>
#include <string>

#include "quantize/matrix.h"
#include "tensor/ggml_block.h"

namespace gale {

/// The rows of `weight` [out, in] as blocks of Q4_0, Q8_0, Q4_K or Q6_K, whose elements divide in.
/// Of Q4_K each group's step and minimum are those of a few, around its range, that leave the
/// smallest sum of squared errors; of Q6_K steps reach the largest magnitude.
std::string ToGgmlBlocks(const Matrix& weight, GgmlType type, ThreadPool& threads);

}  // namespace gale
