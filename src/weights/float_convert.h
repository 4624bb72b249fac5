// Between f32, f16 and bf16 arrays on the host, for weights whose file and model dtypes differ.
#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Writes source's elements to `out` (contiguous, as many elements), rounding to nearest even.
/// Source bytes need no alignment. Equal dtypes are copied. CHECKs that both are float otherwise.
/// Cost: memory-bound; reads and writes each element once.
void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out,
                     ThreadPool& threads);

/// IEEE binary16, as stored, to f32; exact.
float HalfToFloat(uint16_t bits);
/// To nearest, ties to even; overflow becomes infinity, NaN stays NaN.
uint16_t FloatToHalf(float value);

}  // namespace gale
