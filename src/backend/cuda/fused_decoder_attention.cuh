// Attention inside the persistent decoder kernel: rotary positions, work items, online softmax over
// cached and new keys, merging of splits.
#pragma once

#include "backend/cuda/fused_decoder_params.cuh"
#include "backend/cuda/ptx.cuh"

namespace gale::cuda::fused {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

/// Cosine and sine of every row's position, once a step. Called by the consumers.
__device__ inline void PrepareRope(const FusedParams& p, const SharedLayout& s) {
  for (int i = threadIdx.x; i < p.rows * 64; i += kConsumers) {
    const int pair = i % 64;
    float sine = 0;
    float cosine = 1;
    if (pair * 2 < p.rotary_dim) {
      sincosf(static_cast<float>(p.positions[i / 64]) * p.inv_freq[pair], &sine, &cosine);
    }
    s.rope[i] = {cosine, sine};
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// One head's vector: lane holds elements lane + 32 i. Norm (if any), then rotary embedding.
template <int kHeadDim>
__device__ inline void NormAndRotate(const FusedParams& p, const bf16* norm, const float2* rope,
                                     float (&x)[kHeadDim / 32]) {
  constexpr int kPerLane = kHeadDim / 32;
  const int lane = threadIdx.x & 31;
  if (norm != nullptr) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sum += x[i] * x[i];
    const float scale = rsqrtf(WarpSum(sum) / kHeadDim + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) x[i] *= scale * __bfloat162float(norm[lane + 32 * i]);
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

/// One attention work item: a row, a kv head, a split of the row's cached positions.
struct AttentionItem {
  int row = -1;  // -1: none left
  int kv_head = 0;
  int split = 0;
  int splits = 1;
  int cached = 0;  // positions before this step
};

/// The item that is number `index` of the step; every block enumerates them alike.
__device__ inline AttentionItem FindItem(const FusedParams& p, int index) {
  for (int row = 0; row < p.rows; ++row) {
    const int cached = p.positions[p.row_first[row]];
    const int splits = max(1, (cached + kFusedSplitTokens - 1) / kFusedSplitTokens);
    if (index < splits * p.kv_heads)
      return {row, index % p.kv_heads, index / p.kv_heads, splits, cached};
    index -= splits * p.kv_heads;
  }
  return {};
}

/// A lane's share of an item's cached keys and values: eight dims of kRows positions. Loaded before
/// the grid barrier that the queries wait for.
template <int kHeadDim>
struct CachedRows {
  static constexpr int kLanesPerRow = kHeadDim / 8;
  static constexpr int kRowsPerWarp = 32 / kLanesPerRow;
  static constexpr int kRows = kFusedSplitTokens / (kConsumerWarps * kRowsPerWarp);
  uint4 k[kRows];
  uint4 v[kRows];

  __device__ static int Position(const AttentionItem& item, int i) {
    const int warp = threadIdx.x >> 5;
    const int sub = (threadIdx.x & 31) / kLanesPerRow;
    return item.split * kFusedSplitTokens + (i * kConsumerWarps + warp) * kRowsPerWarp + sub;
  }

  __device__ void Load(const FusedParams& p, const AttentionItem& item, int layer_index) {
    const int64_t head_stride = static_cast<int64_t>(p.block_tokens) * kHeadDim;
    const int64_t offset =
        (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item.kv_head) * head_stride +
        (threadIdx.x % kLanesPerRow) * 8;
    const int32_t* table =
        p.block_tables + static_cast<int64_t>(p.row_seq[item.row]) * p.max_blocks;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int position = Position(item, i);
      k[i] = {0, 0, 0, 0};
      v[i] = {0, 0, 0, 0};
      if (position < item.cached) {
        const bf16* address = reinterpret_cast<const bf16*>(
                                  p.kv + table[position / p.block_tokens] * p.kv_block_bytes) +
                              offset + (position % p.block_tokens) * kHeadDim;
        k[i] = *reinterpret_cast<const uint4*>(address);
        v[i] = *reinterpret_cast<const uint4*>(address + p.kv_heads * head_stride);
      }
    }
  }
};

/// Phase 2 for one item. The last split also takes the positions of this step, whose keys and
/// values it makes from the QKV products itself. Writes attention_out, or partials when there are
/// splits.
template <int kHeadDim, int kGroup>
__device__ inline void Attend(const FusedParams& p, const FusedLayer& layer, int layer_index,
                              const AttentionItem& item, const CachedRows<kHeadDim>& cache,
                              const SharedLayout& s) {
  using Cache = CachedRows<kHeadDim>;
  constexpr int kPerLane = kHeadDim / 32;
  constexpr float kLog2E = 1.4426950408889634F;
  const int warp = threadIdx.x >> 5;
  const int lane = threadIdx.x & 31;
  const int sub = lane / Cache::kLanesPerRow;
  const int dim = (lane % Cache::kLanesPerRow) * 8;
  const int qkv_width = (p.q_heads + 2 * p.kv_heads) * kHeadDim;
  const int first_row = p.row_first[item.row];
  const int new_rows = item.split == item.splits - 1 ? item.row - first_row + 1 : 0;

  // Heads to prepare: the group's queries, then this step's keys and values.
  for (int h = warp; h < kGroup + new_rows; h += kConsumerWarps) {
    float x[kPerLane];
    if (h < kGroup) {
      const float* raw = p.qkv_out + static_cast<int64_t>(item.row) * qkv_width +
                         (item.kv_head * kGroup + h) * kHeadDim + lane;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) x[i] = __ldcg(&raw[32 * i]);
      NormAndRotate<kHeadDim>(p, layer.q_norm, s.rope + item.row * 64, x);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        s.q[h * kHeadDim + lane + 32 * i] = x[i] * p.attention_scale * kLog2E;
      }
    } else {
      const int row = first_row + h - kGroup;
      const float* raw = p.qkv_out + static_cast<int64_t>(row) * qkv_width +
                         (p.q_heads + item.kv_head) * kHeadDim + lane;
      float v[kPerLane];
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        x[i] = __ldcg(&raw[32 * i]);
        v[i] = __ldcg(&raw[p.kv_heads * kHeadDim + 32 * i]);
      }
      NormAndRotate<kHeadDim>(p, layer.k_norm, s.rope + row * 64, x);
      const int slot = p.slot_mapping[row];
      const int64_t head_stride = static_cast<int64_t>(p.block_tokens) * kHeadDim;
      bf16* k_cache =
          reinterpret_cast<bf16*>(p.kv + (slot / p.block_tokens) * p.kv_block_bytes) +
          (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item.kv_head) * head_stride +
          (slot % p.block_tokens) * kHeadDim + lane;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        // Rounded as the cache rounds, so that this step reads what later steps will read.
        const bf16 k_rounded = __float2bfloat16(x[i]);
        const bf16 v_rounded = __float2bfloat16(v[i]);
        s.new_k[(h - kGroup) * kHeadDim + lane + 32 * i] = __bfloat162float(k_rounded);
        s.new_v[(h - kGroup) * kHeadDim + lane + 32 * i] = __bfloat162float(v_rounded);
        if (row == item.row) {
          k_cache[32 * i] = k_rounded;
          k_cache[p.kv_heads * head_stride + 32 * i] = v_rounded;
        }
      }
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);

#pragma unroll
  for (int h = 0; h < kGroup; ++h) {
    float q[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] = s.q[h * kHeadDim + dim + i];
    // All scores of the lane first, then one softmax: this step's position (warp w takes row w of
    // them, first lanes only) comes after the cached ones.
    float scores[Cache::kRows + 1];
#pragma unroll
    for (int i = 0; i <= Cache::kRows; ++i) {
      float k[8];
      if (i < Cache::kRows) {
        Unpack8(cache.k[i < Cache::kRows ? i : 0], k);
      } else {
#pragma unroll
        for (int j = 0; j < 8; ++j) k[j] = s.new_k[warp * kHeadDim + dim + j];
      }
      float score = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) score += q[j] * k[j];
#pragma unroll
      for (int offset = Cache::kLanesPerRow / 2; offset > 0; offset >>= 1) {
        score += __shfl_xor_sync(~0U, score, offset);
      }
      const bool valid =
          i < Cache::kRows ? Cache::Position(item, i) < item.cached : sub == 0 && warp < new_rows;
      scores[i] = valid ? score : -INFINITY;
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
        for (int j = 0; j < 8; ++j) v[j] = weight > 0 ? s.new_v[warp * kHeadDim + dim + j] : 0.0F;
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
      float4* dst = reinterpret_cast<float4*>(s.reduce + (warp * kGroup + h) * kHeadDim + dim);
      dst[0] = {out[0], out[1], out[2], out[3]};
      dst[1] = {out[4], out[5], out[6], out[7]};
    }
    if (lane == 0) s.head_stats[warp * 8 + h] = {max, sum};
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);

  for (int i = threadIdx.x; i < kGroup * kHeadDim; i += kConsumers) {
    const int h = i / kHeadDim;
    float max = -INFINITY;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) max = fmaxf(max, s.head_stats[w * 8 + h].x);
    float total = 0;
    float out = 0;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      const float2 stats = s.head_stats[w * 8 + h];
      const float factor = exp2f(stats.x - max);
      total += factor * stats.y;
      out += factor * s.reduce[w * kGroup * kHeadDim + i];
    }
    const int64_t head = static_cast<int64_t>(item.row) * p.q_heads + item.kv_head * kGroup + h;
    if (item.splits == 1) {
      p.attention_out[head * kHeadDim + i % kHeadDim] = __float2bfloat16(out / total);
    } else {
      const int64_t slot = head * kFusedMaxSplits + item.split;
      __stcg(&p.partial_out[slot * kHeadDim + i % kHeadDim], out);
      if (i % kHeadDim == 0) __stcg(&p.partial_ml[slot], make_float2(max, total));
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

/// input[r] = the row's attention output, its splits merged in order. Ends with a consumer barrier.
template <int kHeadDim>
__device__ inline void LoadAttention(const FusedParams& p, int row_bytes, const SharedLayout& s) {
  const int width = p.q_heads * kHeadDim;
  for (int row = 0; row < p.rows; ++row) {
    const int cached = p.positions[p.row_first[row]];
    const int splits = max(1, (cached + kFusedSplitTokens - 1) / kFusedSplitTokens);
    if (splits == 1) {
      const uint4* src =
          reinterpret_cast<const uint4*>(p.attention_out + static_cast<int64_t>(row) * width);
      uint4* dst = reinterpret_cast<uint4*>(s.input + row * row_bytes);
      for (int i = threadIdx.x; i < width / 8; i += kConsumers) dst[i] = __ldcg(&src[i]);
      continue;
    }
    for (int i = threadIdx.x * 4; i < width; i += kConsumers * 4) {
      const int64_t slot = (static_cast<int64_t>(row) * p.q_heads + i / kHeadDim) * kFusedMaxSplits;
      float max = -INFINITY;
      for (int j = 0; j < splits; ++j) max = fmaxf(max, __ldcg(&p.partial_ml[slot + j]).x);
      float total = 0;
      float4 out = {0, 0, 0, 0};
      for (int j = 0; j < splits; ++j) {
        const float2 ml = __ldcg(&p.partial_ml[slot + j]);
        const float4 part = __ldcg(
            reinterpret_cast<const float4*>(&p.partial_out[(slot + j) * kHeadDim + i % kHeadDim]));
        const float factor = exp2f(ml.x - max);
        total += factor * ml.y;
        out.x += factor * part.x;
        out.y += factor * part.y;
        out.z += factor * part.z;
        out.w += factor * part.w;
      }
      const __nv_bfloat162 lo = __floats2bfloat162_rn(out.x / total, out.y / total);
      const __nv_bfloat162 hi = __floats2bfloat162_rn(out.z / total, out.w / total);
      reinterpret_cast<uint2*>(s.input + row * row_bytes)[i / 4] = {
          reinterpret_cast<const uint32_t&>(lo), reinterpret_cast<const uint32_t&>(hi)};
    }
  }
  NamedBarrierSync(kConsumerBarrier, kConsumers);
}

#endif

}  // namespace gale::cuda::fused
