// Elements of any float dtype as f32, one at a time or 16 bytes at a time; warp and block sums.
// Layer L1b, device side.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/device.h"
#include "tensor/tensor_view.h"

namespace gale::cuda {

using bf16 = __nv_bfloat16;

constexpr int kWarp = 32;

__device__ __forceinline__ float ToF32(float x) { return x; }
__device__ __forceinline__ float ToF32(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T FromF32(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return __float2bfloat16(x);
  }
}

/// Pointer and dtype of elements whose type is known at run time only.
struct AnyFloats {
  const void* data;
  DType dtype;

  /// The elements from the i-th on; null stays null.
  __device__ __forceinline__ AnyFloats From(int64_t i) const {
    if (data == nullptr) return *this;
    return {static_cast<const char*>(data) + i * (dtype == DType::kF32 ? 4 : 2), dtype};
  }

  __device__ __forceinline__ float operator[](int64_t i) const {
    switch (dtype) {
      case DType::kF32: return static_cast<const float*>(data)[i];
      case DType::kF16: return __half2float(static_cast<const __half*>(data)[i]);
      default: return __bfloat162float(static_cast<const bf16*>(data)[i]);
    }
  }
};

inline AnyFloats Floats(const TensorView& view) { return {view.data, view.dtype}; }

/// Elements of T in 16 bytes.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

/// kPack elements as f32; `address` is 16-byte aligned.
template <class T>
__device__ __forceinline__ void LoadPack(const T* address, float (&x)[kPack<T>]) {
  const uint4 packed = *reinterpret_cast<const uint4*>(address);
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      x[i] = __uint_as_float(words[i]);
    } else {
      x[2 * i] = __uint_as_float(words[i] << 16);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
    }
  }
}

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

template <class T>
__device__ __forceinline__ void StorePack(T* address, const float (&x)[kPack<T>]) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      words[i] = __float_as_uint(x[i]);
    } else {
      words[i] = PackBf16(x[2 * i], x[2 * i + 1]);
    }
  }
  *reinterpret_cast<uint4*>(address) = {words[0], words[1], words[2], words[3]};
}

/// Whether 16-byte accesses may go over the rows of `view`, up to its full width.
inline bool RowsArePacks(const TensorView& view) {
  const auto bytes = static_cast<int64_t>(DTypeBytes(view.dtype));
  bool aligned = reinterpret_cast<uintptr_t>(view.data) % 16 == 0;
  for (int i = 0; i + 1 < view.rank; ++i) aligned = aligned && view.strides[i] * bytes % 16 == 0;
  return aligned && view.dims[view.rank - 1] * bytes % 16 == 0;
}

__device__ __forceinline__ float WarpAdd(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0U, x, offset);
  return x;
}

/// Sum over the block, the same in all threads and runs. `shared` has a float for each warp.
__device__ __forceinline__ float BlockAdd(float x, float* shared) {
  x = WarpAdd(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < blockDim.x / kWarp; ++w) sum += shared[w];
  __syncthreads();
  return sum;
}

}  // namespace gale::cuda
