// Tensor maps: how the copy engine of Hopper sees a matrix in device memory. Layer L1b, host side.
#pragma once

#include <span>

#include <cuda.h>

namespace gale::cuda {

/// Whether the driver is new enough to make tensor maps.
bool HasTensorMaps();

/// A map of bf16 for copies that swizzle by 128 bytes. Dimensions from the innermost on; `strides`
/// are the bytes between elements of all but the innermost; boxes are 64 elements wide.
/// `promotion`: what L2 reads at least. False: refused by the driver.
bool EncodeTensorMap(void* data, std::span<const cuuint64_t> dims,
                     std::span<const cuuint64_t> strides, std::span<const cuuint32_t> box,
                     CUtensorMap* map,
                     CUtensorMapL2promotion promotion = CU_TENSOR_MAP_L2_PROMOTION_L2_256B);

}  // namespace gale::cuda
