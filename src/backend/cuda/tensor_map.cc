#include "backend/cuda/tensor_map.h"

#include <array>

#include <cuda_runtime.h>

namespace gale::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found at run time so that nothing links to libcuda. Null: driver too old.
EncodeTiled FindEncodeTiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    const bool ok = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                     cudaEnableDefault, &status) == cudaSuccess &&
                    status == cudaDriverEntryPointSuccess;
    return ok ? reinterpret_cast<EncodeTiled>(found) : nullptr;
  }();
  return function;
}

}  // namespace

bool HasTensorMaps() { return FindEncodeTiled() != nullptr; }

bool EncodeTensorMap(void* data, std::span<const cuuint64_t> dims,
                     std::span<const cuuint64_t> strides, std::span<const cuuint32_t> box,
                     CUtensorMap* map, CUtensorMapL2promotion promotion) {
  static constexpr std::array<cuuint32_t, 5> kSteps = {1, 1, 1, 1, 1};
  return FindEncodeTiled()(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                           static_cast<cuuint32_t>(dims.size()), data, dims.data(), strides.data(),
                           box.data(), kSteps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                           CU_TENSOR_MAP_SWIZZLE_128B, promotion,
                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace gale::cuda
