// What SMs make for one another in steps of several rows: bf16 in vectors of four, which are
// written and read whole and say by their lowest bit when they are there (see
// fused_decoder_tagged.cuh). Eight rows of them are no more to read than four of tagged f32.
#pragma once

#include "backend/cuda/fused_decoder_tagged.cuh"

namespace gale::cuda::fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Four values as bf16, the first with `tag` for its lowest bit: rounded to the nearest such
/// number.
__device__ inline uint2 PackTagged4(const float (&x)[4], uint32_t tag) {
  const uint32_t bits = tag << 16;
  const uint32_t first = ((__float_as_uint(x[0]) - bits + 0x10000U) & ~0x1FFFFU) + bits;
  const __nv_bfloat162 low = __floats2bfloat162_rn(0.0F, x[1]);
  const __nv_bfloat162 high = __floats2bfloat162_rn(x[2], x[3]);
  return {reinterpret_cast<const uint32_t&>(low) | first >> 16,
          reinterpret_cast<const uint32_t&>(high)};
}

/// One access, of which readers see all or nothing.
__device__ inline void StoreVector(bf16* address, const uint2& v) {
  asm volatile(
      "{\n"
      ".reg .b64 all;\n"
      "mov.b64 all, {%1, %2};\n"
      "st.relaxed.gpu.global.b64 [%0], all;\n"
      "}\n" ::"l"(address),
      "r"(v.x), "r"(v.y)
      : "memory");
}

/// Two vectors.
__device__ inline void LoadVectors(const bf16* address, uint4& v) {
  asm volatile(
      "{\n"
      ".reg .b64 low, high;\n"
      "ld.relaxed.gpu.global.v2.b64 {low, high}, [%4];\n"
      "mov.b64 {%0, %1}, low;\n"
      "mov.b64 {%2, %3}, high;\n"
      "}\n"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(address)
      : "memory");
}

__device__ inline float LoadRelaxed(const float* address) {
  float value;
  asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}

/// The values of four neighbouring lanes as a vector, which the first of them stores.
__device__ inline void StoreTaggedLanes(bf16* address, float value, uint32_t tag) {
  const uint32_t lane = threadIdx.x & 31;
  const uint32_t mask = 0xFU << (lane & 28U);
  float x[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = __shfl_sync(mask, value, i, 4);
  if ((lane & 3U) == 0) StoreVector(address, PackTagged4(x, tag));
}

/// values[i] = what is at address(i), as soon as it is there.
template <int kCount, class Address>
__device__ inline void LoadTagged(float (&values)[kCount], uint32_t tag, const Address& address) {
  uint32_t missing;
  do {
    missing = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];"
                   : "=f"(values[i])
                   : "l"(address(i))
                   : "memory");
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) missing |= Differs(values[i], tag);
  } while ((missing & 1) != 0);
}

#endif

}  // namespace gale::cuda::fused
