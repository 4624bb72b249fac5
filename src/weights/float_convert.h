// f32, f16 and bf16 arrays and ggml blocks on the host to f32 or bf16, for weights whose file and
// model dtypes differ.
#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "tensor/dtype.h"
#include "tensor/quant_format.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Writes source's elements to `out` (contiguous, as many elements). Equal dtypes are copied;
/// others become f32 exactly, or bf16 rounded to nearest even. Source bytes need no alignment.
/// Cost: memory-bound; reads and writes each element once.
void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out,
                     ThreadPool& threads);

/// The same on the calling thread.
void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out);

/// The same for rows of ggml's blocks, to f32 or bf16.
void ConvertBlocks(std::span<const std::byte> source, GgmlType type, const TensorView& out,
                   ThreadPool& threads);
void ConvertBlocks(std::span<const std::byte> source, GgmlType type, const TensorView& out);

}  // namespace gale
