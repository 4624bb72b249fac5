// The rows of attention_decode.cuh over a quantized cache: products of codes, as they are, with f16
// operands, which hold every code exactly; scales multiply scores and weights.
//
// A query row is divided by a power of two that brings it below 2. A value's scale goes into its
// weight: exp(score) * scale = exp2(score * log2 e + log2 scale), which is at most some 2^15 as the
// running maximum is of these exponents; the sum of weights takes the scale out again.
//
// Positions are the products' rows, so that eight query rows fill their columns: operand A is keys
// [position][element], then values [element][position]; operand B queries, then weights, which are
// transposed in registers. Which elements of a key meet at a time does not matter, nor which of a
// value are rows of a product, as long as queries and sums know: each lane takes what lies
// together.
#pragma once

#include "backend/cuda/attention_decode.cuh"

namespace gale::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <int kWords>
__device__ __forceinline__ void LoadWords(const uint8_t* address, uint32_t (&words)[kWords]) {
  if constexpr (kWords == 4) {
    const uint4 vector = *reinterpret_cast<const uint4*>(address);
    words[0] = vector.x;
    words[1] = vector.y;
    words[2] = vector.z;
    words[3] = vector.w;
  } else if constexpr (kWords == 2) {
    const uint2 vector = *reinterpret_cast<const uint2*>(address);
    words[0] = vector.x;
    words[1] = vector.y;
  } else {
    words[0] = *reinterpret_cast<const uint32_t*>(address);
  }
}

__device__ __forceinline__ uint32_t PackHalves(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

/// Lane (g, t) has the query rows 2t and 2t + 1 of each eight, and of values the elements that lie
/// g-th in each slab.
template <int kDim, KvFormat kFormat, int kRows>
struct DecodeRows {
  using Tile = DecodeTile<kDim, kFormat>;
  static constexpr bool kHasOffsets = kFormat == KvFormat::kInt4;
  static constexpr int kRowTiles = kRows / 8;
  static constexpr int kWord = kWordElements<kFormat>;
  // Rows are taken in slabs of at most 128 bytes.
  static constexpr int kSlabs = Tile::kRowBytes > 128 ? Tile::kRowBytes / 128 : 1;
  static constexpr int kSlabElements = kDim / kSlabs;
  static constexpr int kSlabRow = Tile::kRowBytes / kSlabs;  // bytes
  static constexpr int kKeyBytesOfLane = kSlabRow / 4;
  static constexpr int kKeyWords = kKeyBytesOfLane < 16 ? kKeyBytesOfLane / 4 : 4;  // at once
  static constexpr int kValueWords = kSlabRow / 32;
  // Weights are up to 2^kShift times what they are relative to the maximum, which may be exceeded
  // by kSlack before all is scaled anew.
  static constexpr float kShift = 8;
  static constexpr float kSlack = 7;

  uint32_t q[kRowTiles][kDim / 16][2];
  float acc[kRowTiles][kDim / 16][4] = {};
  float factor[kRowTiles][2];       // of a row's products
  float query_sum[kRowTiles][2];    // what an offset of keys is multiplied by
  float max[kRowTiles][2];          // of exponents
  float sum[kRowTiles][2] = {};     // of this lane's positions
  float offset[kRowTiles][2] = {};  // weighted sum of the offsets of values, of this lane's
  int position[kRowTiles][2];       // last one seen; -1: none
  int visible[kRowTiles][2];        // first one seen
  int row_tiles;
  int seq_len;

  /// Which position of a tile is the index-th row of a product: such that values are read without
  /// bank conflicts (but for the shortest rows).
  __device__ static constexpr int PositionOf(int index) {
    const int of_lane = index / 8 * 2 + index % 2;  // of the four that a lane reads values of
    const int lane = index % 8 / 2;
    return Tile::kRowBytes == 64   ? lane * 4 + of_lane
           : Tile::kRowBytes > 128 ? of_lane * 4 + lane
                                   : index;
  }
  /// Element of the lane's i-th pair of a word of keys, its lower (b = 0) or upper one.
  __device__ static constexpr int ElementOfPair(int i, int b) {
    return kFormat == KvFormat::kInt4 ? i + 4 * b : 2 * i + b;
  }

  /// Whether there are rows among the n-th eight.
  __device__ __forceinline__ bool Has(int n) const { return n == 0 || n < row_tiles; }

  __device__ __forceinline__ DecodeRows(const AttentionParams& p, const bf16* queries,
                                        const DecodeSegment& segment, int length)
      : seq_len(length) {
    const int num_rows = segment.of.num_tokens * p.group;
    row_tiles = (num_rows + 7) / 8;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
      LoadQueries(p, queries + n * 8 * Tile::kPitch, n);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + r;
        position[n][r] = row < num_rows ? length - segment.of.num_tokens + row / p.group : -1;
        visible[n][r] = p.FirstVisible(position[n][r]);
        max[n][r] = -INFINITY;
      }
    }
  }

  /// Eight rows of queries to operand B.
  __device__ __forceinline__ void LoadQueries(const AttentionParams& p, const bf16* queries,
                                              int n) {
    constexpr int kOfLane = kSlabElements / 4;  // elements of a slab
    constexpr int kStepsOfWord = kWord / 4;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float x[kDim / 4];
#pragma unroll
    for (int i = 0; i < kDim / 4; i += 8) {
      float pack[8];
      LoadPack(queries + lane / 4 * Tile::kPitch + i / kOfLane * kSlabElements +
                   lane % 4 * kOfLane + i % kOfLane,
               pack);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[i + j] = pack[j];
    }
    const auto element = [&](int step, int i, int b) {
      return x[step / kStepsOfWord * kWord + ElementOfPair(step % kStepsOfWord * 2 + i, b)];
    };
    float most = 0;
    float total = 0;
#pragma unroll
    for (int i = 0; i < kDim / 4; ++i) {
      most = fmaxf(most, fabsf(x[i]));
      total += x[i];
    }
#pragma unroll
    for (int distance = 1; distance < 4; distance <<= 1) {
      most = fmaxf(most, __shfl_xor_sync(~0U, most, distance));
      total += __shfl_xor_sync(~0U, total, distance);
    }
    const float unit = fmaxf(__uint_as_float(__float_as_uint(most) & 0x7F800000U), 0x1p-100F);
    const float inverse = 1 / unit;
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        q[n][step][i] = PackHalves(element(step, i, 0) * inverse, element(step, i, 1) * inverse);
      }
    }
    // Where scores are capped, p.scale comes with the cap.
    const float scale = p.softcap > 0 ? 1.0F : p.scale * kLog2E;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int from = (lane % 4 * 2 + r) * 4;
      factor[n][r] = __shfl_sync(~0U, unit, from) * scale;
      query_sum[n][r] = __shfl_sync(~0U, total, from) * scale;
    }
  }

  __device__ __forceinline__ void MultiplyKeys(const uint8_t* stage,
                                               float (&scores)[kRowTiles][4]) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int at = lane % 4 * kKeyBytesOfLane;
    const int low = PositionOf(lane / 4) * Tile::kRowBytes + at;
    const int high = PositionOf(lane / 4 + 8) * Tile::kRowBytes + at;
    int step = 0;
    float parts[2][kRowTiles][4] = {};  // of even and odd steps, which need not wait for each other
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
#pragma unroll
      for (int first = 0; first < kKeyBytesOfLane; first += 4 * kKeyWords) {
        const int begin = slab * kSlabRow + first;
        uint32_t of_low[kKeyWords];
        uint32_t of_high[kKeyWords];
        LoadWords(stage + Swizzled(begin + low), of_low);
        LoadWords(stage + Swizzled(begin + high), of_high);
#pragma unroll
        for (int w = 0; w < kKeyWords; ++w) {
          uint32_t a[kWord / 2];
          uint32_t b[kWord / 2];
          CodePairs<kFormat>(of_low[w], a);
          CodePairs<kFormat>(of_high[w], b);
#pragma unroll
          for (int i = 0; i < kWord / 2; i += 2, ++step) {
#pragma unroll
            for (int n = 0; n < kRowTiles; ++n) {
              if (!Has(n)) continue;
              MmaF16(parts[step % 2][n], a[i], b[i], a[i + 1], b[i + 1], q[n][step][0],
                     q[n][step][1]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[n][i] = parts[0][n][i] + parts[1][n][i];
    }
  }

  /// Sums of values times weights, operand B of which is w.
  __device__ __forceinline__ void MultiplyValues(const uint8_t* stage, int begin,
                                                 const uint32_t (&w)[kRowTiles][2]) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int at = Tile::kKeyBytes + lane / 4 * (4 * kValueWords);
    const int t = lane % 4;
    const bool all_written = begin + kDecodePositions <= seq_len;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      uint32_t words[4][kValueWords];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = PositionOf(2 * t + i % 2 + i / 2 * 8);
        LoadWords(stage + Swizzled(row * Tile::kRowBytes + slab * kSlabRow + at), words[i]);
        // What was never written may be NaN; as zeros it adds nothing. Integers are none.
        if (kFormat == KvFormat::kFp8 && !all_written && begin + row >= seq_len) {
#pragma unroll
          for (uint32_t& word : words[i]) word = 0;
        }
      }
#pragma unroll
      for (int word = 0; word < kValueWords; ++word) {
        uint32_t a[kWord];
        uint32_t b[kWord];
        CodePairsOf<kFormat>(words[0][word], words[1][word], a);
        CodePairsOf<kFormat>(words[2][word], words[3][word], b);
#pragma unroll
        for (int i = 0; i < kWord; i += 2) {
          const int m = slab * (kSlabElements / 16) + (word * kWord + i) / 2;
#pragma unroll
          for (int n = 0; n < kRowTiles; ++n) {
            if (!Has(n)) continue;
            MmaF16(acc[n][m], a[i], a[i + 1], b[i], b[i + 1], w[n][0], w[n][1]);
          }
        }
      }
    }
  }

  /// Products to exponents of weights, of the lane's two positions, which begin + at[] are; minus
  /// infinity where a row does not see.
  __device__ __forceinline__ void Exponents(const AttentionParams& p, const KvScale (&keys)[2],
                                            const float (&log_scale)[2], const int (&at)[2],
                                            float (&scores)[kRowTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int h = i / 2;
        const int r = i % 2;
        float score = scores[n][i] * (keys[h].scale * factor[n][r]);
        if constexpr (kHasOffsets) score = fmaf(keys[h].offset, query_sum[n][r], score);
        if (p.softcap > 0) score = CappedScore(p, score) * kLog2E;
        const bool seen = at[h] <= position[n][r] && at[h] >= visible[n][r];
        scores[n][i] = seen ? score + log_scale[h] : -INFINITY;
      }
    }
  }

  /// Moves the maxima, and what has been summed up, where exponents are too far above.
  __device__ __forceinline__ void Rescale(const float (&exponents)[kRowTiles][4]) {
    bool is_above = false;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) is_above |= exponents[n][i] > max[n][i % 2] + kSlack;
    }
    if (!__any_sync(~0U, is_above)) return;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float merged = fmaxf(max[n][r], fmaxf(exponents[n][r], exponents[n][2 + r]));
#pragma unroll
        for (int distance = 4; distance < kWarp; distance <<= 1) {
          merged = fmaxf(merged, __shfl_xor_sync(~0U, merged, distance));
        }
        const float keep = merged == -INFINITY ? 0.0F : Exp2(max[n][r] - merged);
        max[n][r] = merged;
        sum[n][r] *= keep;
        offset[n][r] *= keep;
#pragma unroll
        for (auto& fragment : acc[n]) {
          fragment[r] *= keep;
          fragment[2 + r] *= keep;
        }
      }
    }
  }

  /// Takes a tile that begins at position `begin`.
  __device__ __forceinline__ void Add(const AttentionParams& p, const uint8_t* stage, int begin) {
    const auto* scales = reinterpret_cast<const uint32_t*>(stage + 2 * Tile::kKeyBytes);
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float exponents[kRowTiles][4];
    MultiplyKeys(stage, exponents);
    KvScale keys[2];
    KvScale values[2];
    float log_scale[2];
    float inverse[2];
    int at[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int in_tile = PositionOf(lane / 4 + 8 * h);
      at[h] = begin + in_tile;
      // 1 for what was never written and may be NaN.
      constexpr uint32_t kOne = kHasOffsets ? 0x3F80U : 0x3F800000U;
      const bool written = at[h] < seq_len;
      keys[h] = UnpackScale(kFormat, written ? scales[in_tile] : kOne);
      values[h] = UnpackScale(kFormat, written ? scales[kDecodePositions + in_tile] : kOne);
      log_scale[h] = __log2f(values[h].scale);
      inverse[h] = __fdividef(1.0F, values[h].scale);
    }
    Exponents(p, keys, log_scale, at, exponents);
    Rescale(exponents);
    uint32_t w[kRowTiles][2];
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
      float weights[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = i % 2;
        const float base = max[n][r] == -INFINITY ? 0.0F : max[n][r] - kShift;
        weights[i] = Exp2(exponents[n][i] - base);
        const float weight = weights[i] * inverse[i / 2];
        sum[n][r] += weight;
        if constexpr (kHasOffsets) {
          offset[n][r] = fmaf(weight, values[i / 2].offset, offset[n][r]);
        }
      }
      w[n][0] = TransposeMatrix(PackHalves(weights[0], weights[1]));
      w[n][1] = TransposeMatrix(PackHalves(weights[2], weights[3]));
    }
    MultiplyValues(stage, begin, w);
  }

  /// Leaves `rows` rows to be merged: rows of kSumPitch sums, and stats.
  __device__ __forceinline__ void Leave(float* sums, float2* stats, int rows) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n) {
      if (!Has(n)) continue;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int distance = 4; distance < kWarp; distance <<= 1) {
          sum[n][r] += __shfl_xor_sync(~0U, sum[n][r], distance);
          offset[n][r] += __shfl_xor_sync(~0U, offset[n][r], distance);
        }
        const int row = n * 8 + lane % 4 * 2 + r;
        if (row >= rows) continue;
        if (lane < 4) stats[row] = {max[n][r] - kShift, sum[n][r]};
        float* dst = sums + row * Tile::kSumPitch + lane / 4 * (kSlabElements / 8);
        constexpr int kOfSlab = kSlabElements / 16;
#pragma unroll
        for (int m = 0; m < kDim / 16; m += 2) {
          float4 out = {acc[n][m][r], acc[n][m][2 + r], acc[n][m + 1][r], acc[n][m + 1][2 + r]};
          out.x += offset[n][r];
          out.y += offset[n][r];
          out.z += offset[n][r];
          out.w += offset[n][r];
          *reinterpret_cast<float4*>(dst + m / kOfSlab * kSlabElements + m % kOfSlab * 2) = out;
        }
      }
    }
  }
};

#endif

}  // namespace gale::cuda
