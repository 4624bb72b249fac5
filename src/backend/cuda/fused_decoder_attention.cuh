// Attention inside the persistent decoder kernel for one row: rotary positions, work items, online
// softmax over cached keys and the new one, merging of splits.
#pragma once

#include "backend/cuda/fused_decoder_tagged.cuh"
#include "backend/cuda/ptx.cuh"

namespace gale::cuda::fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Cosine and sine of a row's position for a pair of dims.
__device__ inline float2 Turn(const FusedParams& p, int row, int pair) {
  float sine = 0;
  float cosine = 1;
  if (pair * 2 < p.rotary_dim) {
    sincosf(static_cast<float>(p.positions[row]) * p.inv_freq[pair], &sine, &cosine);
  }
  return {cosine, sine};
}

/// What attention needs of a row, once a step: cosine and sine of its position, how much of its
/// sequence is cached, where its key and value go. Called by the consumers.
__device__ inline void PrepareRow(const FusedParams& p, const SharedLayout& s) {
  if (threadIdx.x < 64) s.rope[threadIdx.x] = Turn(p, 0, static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) {
    *s.cached = p.positions[0];
    *s.slots = p.slot_mapping[0];
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// One head's vector: lane holds elements lane + 32 i. Norm (if any), then rotary embedding.
template <int kHeadDim>
__device__ inline void NormAndRotate(const FusedParams& p, bool has_norm,
                                     const bf16 (&norm)[kHeadDim / 32], const float2* rope,
                                     float (&x)[kHeadDim / 32]) {
  constexpr int kPerLane = kHeadDim / 32;
  const int lane = threadIdx.x & 31;
  if (has_norm) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum += x[i] * x[i];
    const float scale = rsqrtf(WarpSum(sum) / kHeadDim + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) x[i] *= scale * __bfloat162float(norm[i]);
  }
#pragma unroll
  for (int i = 0; i < kPerLane / 2; ++i) {
    const float2 turn = rope[lane + 32 * i];
    const float a = x[i];
    const float b = x[i + kPerLane / 2];
    x[i] = a * turn.x - b * turn.y;
    x[i + kPerLane / 2] = b * turn.x + a * turn.y;
  }
}

__device__ inline void Unpack8(const uint4& packed, float (&x)[8]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(words[i] << 16);
    x[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
  }
}

/// One attention work item: a query head, a split of the cached positions. Single heads spread a
/// short context over many SMs; the heads of a group find its keys in L2.
struct AttentionItem {
  int head = -1;  // -1: none left
  int kv_head = 0;
  int split = 0;
  int splits = 1;
  int cached = 0;  // positions before this step

  __device__ bool exists() const { return head >= 0; }
};

/// The item that is number `index` of the step; every block enumerates them alike.
__device__ inline AttentionItem FindItem(const FusedParams& p, const SharedLayout& s, int index) {
  const int cached = *s.cached;
  const int splits = NumSplits(cached);
  if (index >= splits * p.q_heads) return {};
  const int head = index % p.q_heads;
  return {head, head / p.group, index / p.q_heads, splits, cached};
}

/// A lane's share of an item's cached keys and values: eight dims of kRows positions. Loaded before
/// the query is waited for.
template <int kHeadDim>
struct CachedRows {
  static constexpr int kLanesPerRow = kHeadDim / 8;
  static constexpr int kRowsPerWarp = 32 / kLanesPerRow;
  static constexpr int kRows = kFusedSplitTokens / (kConsumerWarps * kRowsPerWarp);
  static constexpr int kUnit = kHeadDim * 2;  // bytes of a head: offsets fit 32 bits in this unit

  uint32_t units[kRows];  // where each position of the first layer's first head is
  uint32_t valid = 0;     // bit i: position i is cached
  uint4 k[kRows];
  uint4 v[kRows];

  /// Once an item: the positions are in the same blocks in every layer.
  __device__ void Locate(const FusedParams& p, const AttentionItem& item) {
    const int warp = threadIdx.x >> 5;
    const int sub = (threadIdx.x & 31) / kLanesPerRow;
    const auto block_units = static_cast<uint32_t>(p.kv_block_bytes / kUnit);
    valid = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int position =
          item.split * kFusedSplitTokens + (i * kConsumerWarps + warp) * kRowsPerWarp + sub;
      units[i] = 0;
      if (position >= item.cached) continue;
      valid |= 1U << i;
      const auto block = static_cast<uint32_t>(p.block_tables[position >> p.block_shift]);
      units[i] = block * block_units + static_cast<uint32_t>(position & ((1 << p.block_shift) - 1));
    }
  }

  __device__ void Load(const FusedParams& p, const AttentionItem& item, int layer_index) {
    const int64_t head_bytes = int64_t{kUnit} << p.block_shift;
    const uint8_t* base =
        p.kv + (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item.kv_head) * head_bytes +
        (threadIdx.x % kLanesPerRow) * 16;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      k[i] = {0, 0, 0, 0};
      v[i] = {0, 0, 0, 0};
      if ((valid >> i & 1) != 0) {
        const uint8_t* address = base + static_cast<int64_t>(units[i]) * kUnit;
        k[i] = *reinterpret_cast<const uint4*>(address);
        v[i] = *reinterpret_cast<const uint4*>(address + p.kv_heads * head_bytes);
      }
    }
  }
};

/// A row of partial results: the head's output before the division, then maximum and sum.
template <int kHeadDim>
__device__ inline float* Partial(const FusedParams& p, int head, int split) {
  constexpr int kStride = kHeadDim + 4;
  return p.partial_out + (static_cast<int64_t>(head) * p.max_splits + split) * kStride;
}

/// Makes the item's query (in shared memory, scaled for exp2) and, if it is a last split, the new
/// key and value, which one head of a group writes to the cache.
template <int kHeadDim>
__device__ inline void PrepareHeads(const FusedParams& p, const FusedLayer& layer, int layer_index,
                                    const AttentionItem& item, bool has_new,
                                    const SharedLayout& s) {
  constexpr int kPerLane = kHeadDim / 32;
  constexpr float kLog2E = 1.4426950408889634F;
  const uint32_t tag = layer_index & 1;
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  // A warp takes the query, the next the key and value.
  if (warp <= (has_new ? 1 : 0)) {
    const bool is_query = warp == 0;
    const float* raw =
        p.qkv_out + (is_query ? item.head : p.q_heads + item.kv_head) * kHeadDim + lane;
    // Asked for before the wait: under the stream of weights an answer takes a microsecond.
    const bf16* norm = is_query ? layer.q_norm : layer.k_norm;
    bf16 norm_weights[kPerLane] = {};
    if (norm != nullptr) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) norm_weights[i] = norm[lane + 32 * i];
    }
    // The value lies kv_heads heads behind its key; both are asked for at once.
    float x[kPerLane];
    float v[kPerLane];
    LoadTaggedStrided(x, v, tag, raw, is_query ? raw : raw + p.kv_heads * kHeadDim);
    NormAndRotate<kHeadDim>(p, norm != nullptr, norm_weights, s.rope, x);
    if (is_query) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) s.q[lane + 32 * i] = x[i] * p.attention_scale * kLog2E;
    } else {
      const int slot = *s.slots;
      const int64_t head_stride = int64_t{kHeadDim} << p.block_shift;
      bf16* k_cache =
          reinterpret_cast<bf16*>(p.kv + (slot >> p.block_shift) * p.kv_block_bytes) +
          (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item.kv_head) * head_stride +
          (slot & ((1 << p.block_shift) - 1)) * kHeadDim + lane;
      const bool writes = item.head == item.kv_head * p.group;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        // Rounded as the cache rounds, so that this step reads what later steps will read.
        const bf16 k_rounded = __float2bfloat16(x[i]);
        const bf16 v_rounded = __float2bfloat16(v[i]);
        s.new_k[lane + 32 * i] = __bfloat162float(k_rounded);
        s.new_v[lane + 32 * i] = __bfloat162float(v_rounded);
        if (writes) {
          k_cache[32 * i] = k_rounded;
          k_cache[p.kv_heads * head_stride + 32 * i] = v_rounded;
        }
      }
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// Phase 2 for one item: a warp takes every eighth of the cached rows, the first also the new one,
/// then the warps merge. Writes the item's partial results; ends with a consumer barrier.
template <int kHeadDim>
__device__ inline void Attend(const FusedParams& p, const FusedLayer& layer, int layer_index,
                              const AttentionItem& item, const CachedRows<kHeadDim>& cache,
                              const SharedLayout& s) {
  using Cache = CachedRows<kHeadDim>;
  const uint32_t tag = layer_index & 1;
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int sub = lane / Cache::kLanesPerRow;
  const int dim = (lane % Cache::kLanesPerRow) * 8;
  const bool has_new = item.split == item.splits - 1;
  PrepareHeads<kHeadDim>(p, layer, layer_index, item, has_new, s);

  float q[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) q[i] = s.q[dim + i];
  // All scores of the lane first, then one softmax: this step's position (of the first warp's first
  // lanes) comes after the cached ones.
  float scores[Cache::kRows + 1];
#pragma unroll
  for (int i = 0; i <= Cache::kRows; ++i) {
    float k[8];
    if (i < Cache::kRows) {
      Unpack8(cache.k[i < Cache::kRows ? i : 0], k);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) k[j] = s.new_k[dim + j];
    }
    float score = 0;
#pragma unroll
    for (int j = 0; j < 8; ++j) score += q[j] * k[j];
#pragma unroll
    for (int offset = Cache::kLanesPerRow / 2; offset > 0; offset >>= 1) {
      score += __shfl_xor_sync(~0U, score, offset);
    }
    const bool is_valid =
        i < Cache::kRows ? (cache.valid >> i & 1) != 0 : has_new && warp == 0 && sub == 0;
    scores[i] = is_valid ? score : -INFINITY;
  }
  float max = scores[0];
#pragma unroll
  for (int i = 1; i <= Cache::kRows; ++i) max = fmaxf(max, scores[i]);
#pragma unroll
  for (int offset = Cache::kLanesPerRow; offset < 32; offset <<= 1) {
    max = fmaxf(max, __shfl_xor_sync(~0U, max, offset));
  }
  const float base = max == -INFINITY ? 0.0F : max;
  float sum = 0;
  float out[8] = {};
#pragma unroll
  for (int i = 0; i <= Cache::kRows; ++i) {
    const float weight = exp2f(scores[i] - base);
    sum += weight;
    float v[8];
    if (i < Cache::kRows) {
      Unpack8(cache.v[i < Cache::kRows ? i : 0], v);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = weight > 0 ? s.new_v[dim + j] : 0.0F;
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] += weight * v[j];
  }
#pragma unroll
  for (int offset = Cache::kLanesPerRow; offset < 32; offset <<= 1) {
    sum += __shfl_xor_sync(~0U, sum, offset);
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] += __shfl_xor_sync(~0U, out[j], offset);
  }
  if (sub == 0) {
    float4* dst = reinterpret_cast<float4*>(s.reduce + warp * kHeadDim + dim);
    dst[0] = {out[0], out[1], out[2], out[3]};
    dst[1] = {out[4], out[5], out[6], out[7]};
  }
  if (lane == 0) s.head_stats[warp] = {max, sum};
  NamedBarrierSync(kConsumerBarrier, kConsumers);

  if (threadIdx.x < kHeadDim) {
    const int i = static_cast<int>(threadIdx.x);
    float all_max = -INFINITY;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) all_max = fmaxf(all_max, s.head_stats[w].x);
    float total = 0;
    float merged = 0;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      const float factor = exp2f(s.head_stats[w].x - all_max);
      total += factor * s.head_stats[w].y;
      merged += factor * s.reduce[w * kHeadDim + i];
    }
    float* partial = Partial<kHeadDim>(p, item.head, item.split);
    StoreTagged(&partial[i], merged, tag);
    if (i < 4) StoreTagged(&partial[kHeadDim + i], i == 0 ? all_max : total, tag);
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// input = the attention output, its splits merged in order. Ends with a consumer barrier.
template <int kHeadDim>
__device__ inline void LoadAttention(const FusedParams& p, uint32_t tag, const SharedLayout& s) {
  constexpr int kUnroll = 2;
  constexpr int kSplits = 2;  // asked for at once
  constexpr int kStep = kConsumers * 4;
  const int width = p.q_heads * kHeadDim;
  const int splits = NumSplits(*s.cached);
  for (int first_column = static_cast<int>(threadIdx.x) * 4; first_column < width;
       first_column += kUnroll * kStep) {
    float max[kUnroll];
    float total[kUnroll] = {};
    float4 out[kUnroll] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) max[u] = -INFINITY;
#pragma unroll 1
    for (int first = 0; first < splits; first += kSplits) {
      float4 loaded[2 * kUnroll * kSplits];
      LoadTagged4(loaded, tag, [&](int i) -> const float* {
        const int column = first_column + i / (2 * kSplits) * kStep;
        const int split = first + i / 2 % kSplits;
        if (split >= splits || column >= width) return nullptr;
        const float* partial = Partial<kHeadDim>(p, column / kHeadDim, split);
        return partial + (i % 2 == 0 ? column % kHeadDim : kHeadDim);
      });
#pragma unroll
      for (int i = 0; i < kUnroll * kSplits; ++i) {
        const int u = i / kSplits;
        if (first + i % kSplits >= splits) continue;
        const float4 part = loaded[2 * i];
        const float2 stats = {loaded[2 * i + 1].x, loaded[2 * i + 1].y};
        const float new_max = fmaxf(max[u], stats.x);
        const float old_factor = exp2f(max[u] - new_max);
        const float factor = exp2f(stats.x - new_max);
        max[u] = new_max;
        total[u] = total[u] * old_factor + stats.y * factor;
        out[u].x = out[u].x * old_factor + part.x * factor;
        out[u].y = out[u].y * old_factor + part.y * factor;
        out[u].z = out[u].z * old_factor + part.z * factor;
        out[u].w = out[u].w * old_factor + part.w * factor;
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int column = first_column + u * kStep;
      if (column >= width) continue;
      const float scale = 1.0F / total[u];
      StoreInput(s.input, column,
                 {out[u].x * scale, out[u].y * scale, out[u].z * scale, out[u].w * scale});
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

#endif

}  // namespace gale::cuda::fused
