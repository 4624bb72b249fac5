// Attention inside the persistent decoder in steps of several rows: a row, a head and a split of
// the cached positions for a warp.
#pragma once

#include "backend/cuda/fused_decoder_attention.cuh"
#include "backend/cuda/fused_decoder_batch_params.cuh"
#include "backend/cuda/fused_decoder_vectors.cuh"

namespace gale::cuda::fused {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Attention of one row and head over a split, by a warp. Lane (sub, t) of a step has eight dims of
/// position `sub`.
template <int kHeadDim>
class HeadAttention {
 public:
  static constexpr int kLanesPerRow = kHeadDim / 8;
  static constexpr int kRowsPerStep = 32 / kLanesPerRow;
  static constexpr int kAtOnce = 16;  // positions that are loaded at once
  static constexpr int kSteps = kAtOnce / kRowsPerStep;
  static constexpr int kPerLane = kHeadDim / 32;
  static constexpr int kNewAtOnce = 2;        // positions of this step
  static constexpr int kUnit = kHeadDim * 2;  // bytes of a head: offsets fit 32 bits in this unit

  __device__ HeadAttention(const BatchParams& b, const BatchLayout& l, HeadItem& item)
      : b_(b), l_(l), item_(item) {}

  /// Makes the item number `index`, if there is one; it is the same in all layers.
  __device__ void Find(int index) {
    const FusedParams& p = b_.model;
    const int lane = threadIdx.x & 31;
    int row = 0;
    int splits = 0;
    for (; row < p.rows; ++row) {
      splits = ::max(1, (l_.shared.cached[row] + b_.split_tokens - 1) / b_.split_tokens);
      if (index < splits * p.q_heads) break;
      index -= splits * p.q_heads;
    }
    __syncwarp();
    if (lane == 0) item_.row = -1;
    if (row < p.rows) {
      const int cached = l_.shared.cached[row];
      const int split = index / p.q_heads;
      const int head = index - split * p.q_heads;
      const int32_t* table =
          p.block_tables + static_cast<int64_t>(b_.model.row_seq[row]) * p.max_blocks;
      const auto block_units = static_cast<uint32_t>(p.kv_block_bytes / kUnit);
      for (int i = lane; i < b_.split_tokens; i += 32) {
        const int position = split * b_.split_tokens + i;
        if (position >= cached) break;
        const auto block = static_cast<uint32_t>(table[position >> p.block_shift]);
        item_.units[i] =
            block * block_units + static_cast<uint32_t>(position & ((1 << p.block_shift) - 1));
      }
      if (lane == 0) {
        item_.row = row;
        item_.head = head;
        item_.kv_head = head / p.group;
        item_.split = split;
        item_.splits = splits;
        item_.cached = cached;
      }
    }
    __syncwarp();
  }

  __device__ bool exists() const { return item_.row >= 0; }

  /// A lane's share of some positions.
  struct Cached {
    uint4 k[kSteps];
    uint4 v[kSteps];
  };

  /// Asks for the keys and values of the split's positions from `first` on.
  __device__ void Load(int layer_index, int first, Cached& cached) const {
    const FusedParams& p = b_.model;
    const int lane = threadIdx.x & 31;
    const int sub = lane / kLanesPerRow;
    const int64_t head_bytes = int64_t{kUnit} << p.block_shift;
    const uint8_t* base =
        p.kv + (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item_.kv_head) * head_bytes +
        (lane % kLanesPerRow) * 16;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int position = first + i * kRowsPerStep + sub;
      cached.k[i] = {0, 0, 0, 0};
      cached.v[i] = {0, 0, 0, 0};
      if (first_position() + position < item_.cached) {
        const uint8_t* address = base + static_cast<int64_t>(item_.units[position]) * kUnit;
        cached.k[i] = *reinterpret_cast<const uint4*>(address);
        cached.v[i] = *reinterpret_cast<const uint4*>(address + p.kv_heads * head_bytes);
      }
    }
  }

  /// Once QKV is there; `cached` has the first positions.
  __device__ void Run(const FusedLayer& layer, int layer_index, Cached& cached) const {
    const FusedParams& p = b_.model;
    constexpr float kLog2E = 1.4426950408889634F;
    const int lane = threadIdx.x & 31;
    const int dim = (lane % kLanesPerRow) * 8;
    float* vector = l_.vectors + (threadIdx.x >> 5) * kHeadDim;
    const uint32_t tag = layer_index & 1;
    bf16 weights[kPerLane] = {};
    if (layer.q_norm != nullptr) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) weights[i] = layer.q_norm[lane + 32 * i];
    }
    float query[kPerLane];
    LoadTagged(query, tag, [&](int i) {
      return b_.qkv +
             (static_cast<int64_t>(item_.row) * (p.q_heads + 2 * p.kv_heads) + item_.head) *
                 kHeadDim +
             lane + 32 * i;
    });
    NormAndRotate<kHeadDim>(p, layer.q_norm != nullptr, weights, l_.rope + item_.row * 64, query);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      query[i] *= p.attention_scale * kLog2E;
      vector[lane + 32 * i] = query[i];
    }
    __syncwarp();
    float q[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) q[i] = vector[dim + i];
    float max = -INFINITY;
    float sum = 0;
    float out[8] = {};
    AddCached(0, cached, q, max, sum, out);
#pragma unroll 1
    for (int first = kAtOnce; first < b_.split_tokens; first += kAtOnce) {
      if (first_position() + first >= item_.cached) break;
      Load(layer_index, first, cached);
      AddCached(first, cached, q, max, sum, out);
    }
    // The lanes of a step's other positions join.
#pragma unroll
    for (int offset = kLanesPerRow; offset < 32; offset <<= 1) {
      const float other = __shfl_xor_sync(~0U, max, offset);
      const float all = fmaxf(max, other);
      const float factor = all == -INFINITY ? 0.0F : exp2f(max - all);
      max = all;
      sum *= factor;
      sum += __shfl_xor_sync(~0U, sum, offset);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        out[j] *= factor;
        out[j] += __shfl_xor_sync(~0U, out[j], offset);
      }
    }
    float new_max = -INFINITY;
    float new_sum = 0;
    float new_out[kPerLane] = {};
    if (item_.split == item_.splits - 1) {
      AddNew(layer, layer_index, query, new_max, new_sum, new_out);
    }
    const float all = fmaxf(max, new_max);
    const float factor = exp2f(max - all);
    const float new_factor = exp2f(new_max - all);
    const float total = sum * factor + new_sum * new_factor;
    __syncwarp();
    if (lane < kLanesPerRow) {
#pragma unroll
      for (int j = 0; j < 8; ++j) vector[dim + j] = out[j] * factor;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      new_out[i] = new_out[i] * new_factor + vector[lane + 32 * i];
    }
    Publish(new_out, all, total, tag);
  }

 private:
  __device__ int first_position() const { return item_.split * b_.split_tokens; }

  __device__ void AddCached(int first, const Cached& cached, const float (&q)[8], float& max,
                            float& sum, float (&out)[8]) const {
    const int sub = (threadIdx.x & 31) / kLanesPerRow;
    const int left = item_.cached - first_position() - first;
    float scores[kSteps];
    float new_max = max;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      float k[8];
      Unpack8(cached.k[i], k);
      float score = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) score += q[j] * k[j];
#pragma unroll
      for (int offset = kLanesPerRow / 2; offset > 0; offset >>= 1) {
        score += __shfl_xor_sync(~0U, score, offset);
      }
      scores[i] = i * kRowsPerStep + sub < left ? score : -INFINITY;
      new_max = fmaxf(new_max, scores[i]);
    }
    const float base = new_max == -INFINITY ? 0.0F : new_max;
    const float factor = exp2f(max - base);
    max = new_max;
    sum *= factor;
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] *= factor;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const float weight = exp2f(scores[i] - base);
      sum += weight;
      float v[8];
      Unpack8(cached.v[i], v);
#pragma unroll
      for (int j = 0; j < 8; ++j) out[j] += weight * v[j];
    }
  }

  /// The positions of this step up to the item's row, of which it writes its own to the cache.
  __device__ void AddNew(const FusedLayer& layer, int layer_index, const float (&query)[kPerLane],
                         float& max, float& sum, float (&out)[kPerLane]) const {
    const FusedParams& p = b_.model;
    const int lane = threadIdx.x & 31;
    for (int first = p.row_first[item_.row]; first <= item_.row; first += kNewAtOnce) {
      // Asked for before the wait, as are all values at once.
      bf16 weights[kPerLane] = {};
      if (layer.k_norm != nullptr) {
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) weights[i] = layer.k_norm[lane + 32 * i];
      }
      float loaded[2 * kNewAtOnce * kPerLane];
      LoadTagged(loaded, layer_index & 1, [&](int i) {
        const int row = min(first + i / (2 * kPerLane), item_.row);
        const int head = p.q_heads + item_.kv_head + i / kPerLane % 2 * p.kv_heads;
        return b_.qkv +
               (static_cast<int64_t>(row) * (p.q_heads + 2 * p.kv_heads) + head) * kHeadDim + lane +
               i % kPerLane * 32;
      });
#pragma unroll
      for (int at = 0; at < kNewAtOnce; ++at) {
        const int row = first + at;
        if (row > item_.row) break;
        float k[kPerLane];
        float v[kPerLane];
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
          k[i] = loaded[2 * at * kPerLane + i];
          v[i] = loaded[(2 * at + 1) * kPerLane + i];
        }
        NormAndRotate<kHeadDim>(p, layer.k_norm != nullptr, weights, l_.rope + row * 64, k);
        const int slot = l_.shared.slots[row];
        const int64_t head_stride = int64_t{kHeadDim} << p.block_shift;
        bf16* cache =
            reinterpret_cast<bf16*>(p.kv + (slot >> p.block_shift) * p.kv_block_bytes) +
            (static_cast<int64_t>(layer_index) * 2 * p.kv_heads + item_.kv_head) * head_stride +
            (slot & ((1 << p.block_shift) - 1)) * kHeadDim + lane;
        const bool writes = row == item_.row && item_.head == item_.kv_head * p.group;
        float score = 0;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
          // Rounded as the cache rounds, so that this step reads what later steps will read.
          const bf16 k_rounded = __float2bfloat16(k[i]);
          const bf16 v_rounded = __float2bfloat16(v[i]);
          if (writes) {
            cache[32 * i] = k_rounded;
            cache[p.kv_heads * head_stride + 32 * i] = v_rounded;
          }
          score += query[i] * __bfloat162float(k_rounded);
          v[i] = __bfloat162float(v_rounded);
        }
        score = WarpSum(score);
        const float new_max = fmaxf(max, score);
        const float factor = exp2f(max - new_max);
        const float weight = exp2f(score - new_max);
        max = new_max;
        sum = sum * factor + weight;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) out[i] = out[i] * factor + weight * v[i];
      }
    }
  }

  /// The last split waits for those before it, which have lower numbers: no two items wait for
  /// each other.
  __device__ void Publish(float (&out)[kPerLane], float max, float sum, uint32_t tag) const {
    const FusedParams& p = b_.model;
    constexpr int kStride = kHeadDim + 4;
    const int lane = threadIdx.x & 31;
    float* partials = b_.partials + (static_cast<int64_t>(item_.row) * p.q_heads + item_.head) *
                                        p.max_splits * kStride;
    if (item_.split < item_.splits - 1) {
      float* own = partials + item_.split * kStride;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) StoreTagged(own + lane + 32 * i, out[i], tag);
      if (lane < 2) StoreTagged(own + kHeadDim + lane, lane == 0 ? max : sum, tag);
      return;
    }
    for (int left = item_.splits - 1; left > 0; left -= kFusedMaxMerged) {
      constexpr int kEach = kPerLane + 1;
      const float* stats = partials + kHeadDim + (lane & 1);
      float x[kFusedMaxMerged * kEach];
      uint32_t missing;
      do {  // reads past the last split, and does not look there
        missing = 0;
#pragma unroll
        for (int i = 0; i < kFusedMaxMerged * kEach; ++i) {
          const int at = i / kEach * kStride;
          x[i] = LoadRelaxed(i % kEach < kPerLane ? partials + lane + at + i % kEach * 32
                                                  : stats + at);
        }
#pragma unroll
        for (int i = 0; i < kFusedMaxMerged * kEach; ++i) {
          if (i / kEach < left) missing |= Differs(x[i], tag);
        }
      } while ((missing & 1) != 0);
#pragma unroll
      for (int at = 0; at < kFusedMaxMerged; ++at) {
        if (at >= left) break;
        const float part_max = __shfl_sync(~0U, x[at * kEach + kPerLane], 0);
        const float part_sum = __shfl_sync(~0U, x[at * kEach + kPerLane], 1);
        const float all = fmaxf(max, part_max);
        const float factor = exp2f(max - all);
        const float part_factor = exp2f(part_max - all);
        max = all;
        sum = sum * factor + part_sum * part_factor;
#pragma unroll
        for (int i = 0; i < kPerLane; ++i) {
          out[i] = out[i] * factor + x[at * kEach + i] * part_factor;
        }
      }
      partials += kFusedMaxMerged * kStride;
    }
    float* vector = l_.vectors + (threadIdx.x >> 5) * kHeadDim;
    const float scale = 1.0F / sum;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) vector[lane + 32 * i] = out[i] * scale;
    __syncwarp();
    if (lane >= kHeadDim / 8) return;
    bf16* to = b_.attended + (static_cast<int64_t>(item_.row) * p.q_heads + item_.head) * kHeadDim;
#pragma unroll
    for (int first = lane * 4; first < kHeadDim; first += kHeadDim / 2) {
      StoreVector(to + first, PackTagged4({vector[first], vector[first + 1], vector[first + 2],
                                           vector[first + 3]},
                                          tag));
    }
  }

  const BatchParams& b_;
  const BatchLayout& l_;
  HeadItem& item_;
};

#endif

}  // namespace gale::cuda::fused
