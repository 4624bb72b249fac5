// Paged attention in f32 arithmetic, for queries or caches that are not bf16: the reference's
// dtype, not the fast path. A warp has one query head of one token; positions come in tiles of 32,
// cut at absolute positions and taken in ascending order, so a row's result depends on nothing but
// itself.
#pragma once

#include "backend/cuda/attention_mma.cuh"

namespace gale::cuda {

constexpr int kFmaWarps = 4;
constexpr int kFmaRows = 64;  // of an item
constexpr int kMaxHeadDim = 256;
constexpr int kMaxLatentDim = 576;

/// A cached key, or value, of kv_head at `position`, as a row of f32.
template <class Kv>
struct CachedElements {
  const Kv* row;

  __device__ __forceinline__ CachedElements(const AttentionParams& p, const int32_t* table,
                                            int kv_head, int position, bool is_value)
      : row(p.CachedRow<Kv>(table, kv_head, position) + (is_value ? p.ValuesOffset() : 0)) {}
  __device__ __forceinline__ float operator[](int d) const { return ToF32(row[d]); }
};

/// The same of a quantized cache.
struct KvCode {};
template <>
struct CachedElements<KvCode> {
  KvFormat format;
  KvRow row;
  KvScale scale;
  int first;

  __device__ __forceinline__ CachedElements(const AttentionParams& p, const int32_t* table,
                                            int kv_head, int position, bool is_value)
      : format(p.cache.format) {
    row = p.CachedKvRow(table, is_value ? p.ValueHead(kv_head) : kv_head, position);
    scale = UnpackScale(format, *row.scale);
    first = is_value ? p.cache.head_dim - p.cache.value_dim : 0;  // of a latent cache: in its key
  }
  __device__ __forceinline__ float operator[](int d) const {
    return KvElement(format, row, scale, first + d);
  }
};

/// One item, which has all chunks, for one kv head, by the whole block.
template <class Q, class Kv, int kMaxDim>
__device__ void AttendInF32(const AttentionParams& p, const AttentionItem& item, int kv_head,
                            float* q) {
  const int lane = threadIdx.x % kWarp;
  const int head_dim = p.cache.head_dim;
  const int first_position = p.seq_lens[item.sequence] - item.num_tokens;
  const int rows = min(kFmaRows, item.num_tokens * p.group - item.first_row);
  const int32_t* table = p.block_tables + item.sequence * p.table_stride;

  for (int r = threadIdx.x / kWarp; r < rows; r += kFmaWarps) {
    const int row = item.first_row + r;
    const int64_t token = item.first_token + row / p.group;
    const int64_t head = kv_head * p.group + row % p.group;
    const Q* src = static_cast<const Q*>(p.q) + token * p.q_stride + head * p.q_head_stride;
    __syncwarp();
    for (int d = lane; d < head_dim; d += kWarp) q[d] = ToF32(src[d]);
    __syncwarp();

    const int position = first_position + row / p.group;
    const int visible = p.FirstVisible(position);
    float max = p.sinks == nullptr ? -INFINITY : p.sinks[head];
    float sum = p.sinks != nullptr && lane == 0 ? 1.0F : 0.0F;  // of this lane's positions
    float acc[kMaxDim / kWarp] = {};
    for (int tile = visible / kWarp; tile <= position / kWarp && position >= 0; ++tile) {
      const int at = tile * kWarp + lane;
      float score = -INFINITY;
      if (at >= visible && at <= position) {
        const CachedElements<Kv> key(p, table, kv_head, at, false);
        score = 0;
        for (int d = 0; d < head_dim; ++d) score = fmaf(q[d], key[d], score);
        score = p.Score(score);
      }
      float merged = fmaxf(max, score);
#pragma unroll
      for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
        merged = fmaxf(merged, __shfl_xor_sync(~0U, merged, offset));
      }
      const float rescale = expf(max - merged);
      const float weight = expf(score - merged);
      max = merged;
      sum = sum * rescale + weight;
#pragma unroll
      for (int i = 0; i < kMaxDim / kWarp; ++i) acc[i] *= rescale;
      const int first = ::max(visible - tile * kWarp, 0);
      const int last = min(position - tile * kWarp, kWarp - 1);
      for (int j = first; j <= last; ++j) {
        const float w = __shfl_sync(~0U, weight, j);
        const CachedElements<Kv> value(p, table, kv_head, tile * kWarp + j, true);
#pragma unroll
        for (int i = 0; i < kMaxDim / kWarp; ++i) {
          const int d = lane + i * kWarp;
          if (d < p.cache.value_dim) acc[i] = fmaf(w, value[d], acc[i]);
        }
      }
    }
    const float total = WarpAdd(sum);
    Q* dst = static_cast<Q*>(p.out) + token * p.out_stride + head * p.out_head_stride;
#pragma unroll
    for (int i = 0; i < kMaxDim / kWarp; ++i) {
      const int d = lane + i * kWarp;
      if (d < p.cache.value_dim) dst[d] = FromF32<Q>(acc[i] / total);
    }
  }
}

/// Blocks: (item, kv head), as of AttentionMmaKernel.
template <class Q, class Kv, int kMaxDim>
__global__ void __launch_bounds__(kFmaWarps* kWarp) AttentionFmaKernel(AttentionParams p) {
  __shared__ float queries[kFmaWarps][kMaxDim];
  LaunchDependents();
  WaitForPrerequisites();
  const int num_items = p.NumItems();
  for (int i = static_cast<int>(blockIdx.x); i < num_items; i += static_cast<int>(gridDim.x)) {
    const AttentionItem item = p.items[i];
    AttendInF32<Q, Kv, kMaxDim>(p, item, static_cast<int>(blockIdx.y),
                                queries[threadIdx.x / kWarp]);
  }
}

}  // namespace gale::cuda
