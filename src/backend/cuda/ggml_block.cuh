// ggml's blocks (tensor/ggml_block.h) on the device. Layer L1b, device side.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "tensor/ggml_block.h"

namespace gale::cuda {

template <GgmlType kType>
constexpr int64_t kBlockBytes = GgmlBlockBytes(kType);

/// Element `i` of a row of blocks as they lie in a file.
template <GgmlType kType>
__device__ __forceinline__ float BlockElement(const uint8_t* row, int64_t i) {
  constexpr int kHalf = kGgmlBlockElements / 2;
  const uint8_t* block = row + i / kGgmlBlockElements * kBlockBytes<kType>;
  const auto at = static_cast<int>(i % kGgmlBlockElements);
  const float scale = __half2float(*reinterpret_cast<const __half*>(block));  // blocks lie even
  const uint8_t* q = block + kGgmlScaleBytes;
  if constexpr (kType == GgmlType::kQ8_0) {
    return scale * static_cast<float>(static_cast<int8_t>(q[at]));
  } else {
    const int byte = q[at % kHalf];
    return scale * static_cast<float>((at < kHalf ? byte & 15 : byte >> 4) - 8);
  }
}

}  // namespace gale::cuda
