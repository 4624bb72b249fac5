// Values that say themselves when they are there: the lowest mantissa bit of an f32 is a tag, which
// a writer sets to the parity of its layer. Whoever waits for a value reads it until the tag is the
// one expected, so that a phase costs one way through L2 and no barrier: no fence, no counter.
//
// A buffer is written once a layer, so the value before is of the other parity. A block writes
// layer l + 1 of a buffer only after it has read, through the phases between, something of every
// block that follows from their layer l: by then all have read that layer of the buffer.
#pragma once

#include "backend/cuda/fused_decoder_params.cuh"

namespace gale::cuda::fused {

__device__ inline float Tag(float value, uint32_t tag) {
  return __uint_as_float((__float_as_uint(value) & ~1U) | tag);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void StoreTagged(float* address, float value, uint32_t tag) {
  asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(address), "f"(Tag(value, tag))
               : "memory");
}

/// Odd when the tag of `value` is not the one expected.
__device__ inline uint32_t Differs(float value, uint32_t tag) {
  return __float_as_uint(value) ^ tag;
}

/// values[i] = the four values at address(i), next to nothing where that is null. All are on their
/// way before the first is looked at; those that were there are not read again with the others.
template <int kCount, class Address>
__device__ inline void LoadTagged4(float4 (&values)[kCount], uint32_t tag, const Address& address) {
  const float nothing = __uint_as_float(tag);
  const float* from[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    from[i] = address(i);
    values[i] = {nothing, nothing, nothing, nothing};
  }
  uint32_t missing;
  do {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      asm volatile(
          "{\n"
          ".reg .pred wanted;\n"
          "setp.ne.u64 wanted, %4, 0;\n"
          "@wanted ld.relaxed.gpu.global.v4.f32 {%0,%1,%2,%3}, [%4];\n"
          "}\n"
          : "+f"(values[i].x), "+f"(values[i].y), "+f"(values[i].z), "+f"(values[i].w)
          : "l"(from[i])
          : "memory");
    }
    missing = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const uint32_t is_missing = (Differs(values[i].x, tag) | Differs(values[i].y, tag) |
                                   Differs(values[i].z, tag) | Differs(values[i].w, tag)) &
                                  1;
      if (is_missing == 0) from[i] = nullptr;
      missing |= is_missing;
    }
  } while (missing != 0);
}

/// a[i] = from_a[32 i] and b[i] = from_b[32 i], in the same way.
template <int kCount>
__device__ inline void LoadTaggedStrided(float (&a)[kCount], float (&b)[kCount], uint32_t tag,
                                         const float* from_a, const float* from_b) {
  const auto load = [](float& value, const float* address) {
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  };
  uint32_t missing;
  do {
    missing = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      load(a[i], from_a + 32 * i);
      load(b[i], from_b + 32 * i);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) missing |= Differs(a[i], tag) | Differs(b[i], tag);
  } while ((missing & 1) != 0);
}

/// Puts columns column .. column + 3 of an input row into shared memory in bf16, in the order in
/// which products take them (MultiplySlice): of every eight columns, pairs 0, 2, 1, 3.
__device__ inline void StoreInput(uint8_t* row, int column, const float4& v) {
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(row + column / 8 * 16) + column % 8 / 4;
  pairs[0] = __floats2bfloat162_rn(v.x, v.y);
  pairs[2] = __floats2bfloat162_rn(v.z, v.w);
}

#endif

}  // namespace gale::cuda::fused
