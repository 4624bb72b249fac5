// What the attention kernels of Hopper share: merging the parts of rows that several blocks have
// seen, and little helpers. Layer L1b, device side; attention_decode.cuh and attention_wgmma.cuh.
#pragma once

#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/wgmma.cuh"

namespace gale::cuda {

constexpr int kSwizzledRow = 128;  // bytes: 64 bf16, what a swizzled copy takes of a cached row

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// 2^x to some 2 units in the last place; denormals become 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// p.Score where there is a cap, off by some 1e-7 of the cap.
__device__ __forceinline__ float CappedScore(const AttentionParams& p, float product) {
  const float e = Exp2(product * (p.scale / p.softcap * (2 * kLog2E)));
  return p.softcap - __fdividef(2 * p.softcap, e + 1);
}

/// What scores are multiplied by to be exponents of 2.
__device__ __forceinline__ float ExponentScale(const AttentionParams& p) {
  return (p.softcap > 0 ? 1.0F : p.scale) * kLog2E;
}

/// Position in a ring of stages, and the parity of the round.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Four columns of a row, not divided by its sum.
struct RowQuad {
  float max;  // of scores * log2 e
  float sum;
  float4 values;
};

/// Adds up `count` parts: stats(i) is the i-th's maximum and sum, values(i) four of its columns.
/// `sink`: the head's, or minus infinity. What eight parts have is on its way at once.
template <class Stats, class Values>
__device__ __forceinline__ RowQuad AddParts(float sink, int count, Stats&& stats, Values&& values) {
  constexpr int kAtOnce = 8;
  RowQuad total{sink, 1, {0, 0, 0, 0}};
  for (int first = 0; first < count; first += kAtOnce) {
    float2 part[kAtOnce];
    float4 add[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      part[i] = stats(min(first + i, count - 1));
      add[i] = values(min(first + i, count - 1));
    }
    float max = total.max;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) max = fmaxf(max, part[i].x);
    const float base = max == -INFINITY ? 0.0F : max;
    const float keep = Exp2(total.max - base);
    total.max = max;
    total.sum *= keep;
    total.values.x *= keep;
    total.values.y *= keep;
    total.values.z *= keep;
    total.values.w *= keep;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float weight = first + i < count ? Exp2(part[i].x - base) : 0.0F;
      total.sum = fmaf(part[i].y, weight, total.sum);
      total.values.x = fmaf(add[i].x, weight, total.values.x);
      total.values.y = fmaf(add[i].y, weight, total.values.y);
      total.values.z = fmaf(add[i].z, weight, total.values.z);
      total.values.w = fmaf(add[i].w, weight, total.values.w);
    }
  }
  return total;
}

/// Columns d to d + 3 of an output row.
__device__ __forceinline__ void StoreQuad(const AttentionParams& p, bf16* row, int d,
                                          const RowQuad& quad) {
  const float factor = 1 / quad.sum;
  const uint2 packed = {PackBf16(quad.values.x * factor, quad.values.y * factor),
                        PackBf16(quad.values.z * factor, quad.values.w * factor)};
  if (p.out_is_packs) {
    if (d < p.cache.head_dim) *reinterpret_cast<uint2*>(row + d) = packed;
    return;
  }
  const uint32_t words[2] = {packed.x, packed.y};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto bits = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
    if (d + i < p.cache.head_dim) row[d + i] = __ushort_as_bfloat16(bits);
  }
}

/// Whether this block is the last one of `parts` to count itself. Called by `threads` threads,
/// which share the named barrier and `flag`; the last block sees what the others have written
/// before.
__device__ __forceinline__ bool FinishesLast(int32_t* counter, int parts, int barrier, int threads,
                                             int* flag) {
  NamedBarrierSync(barrier, threads);
  if (threadIdx.x == 0) {
    // The results, which the barrier orders before this, before the count; what follows after it.
    *flag = AddAcquireRelease(counter, 1) == parts - 1;
    if (*flag) *counter = 0;  // for the next layer
  }
  NamedBarrierSync(barrier, threads);
  return *flag;
}

/// Merges the parts of `rows` rows from first_row on, of one kv head and the sequence that begins
/// at first_token; part(i, row) is where the i-th lies among the partial rows. Past L1, which knows
/// nothing of what other blocks write. Called by the block's first `threads` threads.
template <int kDim, class Part>
__device__ __forceinline__ void MergeParts(const AttentionParams& p, int first_token, int kv_head,
                                           int first_row, int rows, int parts, int threads,
                                           Part&& part) {
  constexpr int kQuads = kDim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < rows * kQuads; i += threads) {
    const int row = i / kQuads;
    const int d = i % kQuads * 4;
    const RowQuad total = AddParts(
        p.Sink(kv_head, first_row + row), parts,
        [&](int j) { return __ldcg(&p.partial_stats[part(j, row)]); },
        [&](int j) {
          return __ldcg(reinterpret_cast<const float4*>(p.partial_out + part(j, row) * kDim + d));
        });
    StoreQuad(p, p.OutRow(first_token, kv_head, first_row + row), d, total);
  }
}

#endif

}  // namespace gale::cuda
