// Paged attention of bf16 queries over a bf16 or quantized cache on the tensor cores, for sm_80 and
// up: online softmax in f32 over tiles of cached positions. What is quantized becomes bf16 on its
// way into shared memory.
//
// The query tokens of a sequence and the heads of one kv head's group are packed into rows,
// row = token * group + head. A warp has 16 rows. Tiles and chunks of kChunk positions are cut at
// absolute positions; a row's softmax is computed chunk by chunk, each from scratch, and the chunks
// are merged in ascending order (Merge): in the block, or, when each had a block of its own, by the
// one that finishes last. What a row does not see
// adds exact zeros, so its result depends neither on its neighbours nor on how the step was split.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/kv_codes.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/tile.cuh"

namespace gale::cuda {

constexpr int kChunk = 256;
constexpr float kLog2E = 1.4426950408889634F;

/// Up to 64 rows of one sequence; blocks of the grid are (item, kv head), and go on by the grid's
/// width where there are more items.
struct AttentionItem {
  int32_t sequence;
  int32_t first_token;  // of the sequence, in the step
  int32_t num_tokens;   // of the sequence, in this step
  int32_t first_row;
  int32_t chunk;  // number of the only chunk, from the first one that a row sees; -1: all of them

  // Of a sequence whose chunks are items of their own, and which then has but one tile of rows:
  int32_t num_chunks;
  int32_t first_partial;  // row of chunk c, kv head h, row r: this + (c * kv_heads + h) * rows + r
  int32_t counter;        // which kv_heads of chunk_counters are the sequence's
};

struct AttentionParams {
  const AttentionItem* items;
  const int32_t* num_items;  // null: as many as the grid is wide
  KvLayout cache;
  int layer;
  const int32_t* seq_lens;
  const int32_t* block_tables;
  int64_t table_stride;
  const void* q;  // [tokens, q_heads, head_dim]
  int64_t q_stride;
  int64_t q_head_stride;
  bool q_is_packs;  // 16-byte accesses may be used
  void* out;
  int64_t out_stride;
  int64_t out_head_stride;
  bool out_is_packs;
  int group;   // query heads of a kv head
  int window;  // 0: none
  float scale;
  float softcap;            // 0: none
  const float* sinks;       // [q_heads], or null
  float* partial_out;       // [partial row, padded_dim], not divided by the sum
  float2* partial_stats;    // [partial row]: maximum (of scores * log2 e) and sum
  int32_t* chunk_counters;  // [split sequence, kv head]: chunks done in this layer; 0 in between

  __device__ __forceinline__ int NumItems() const {
    return num_items == nullptr ? static_cast<int>(gridDim.x) : *num_items;
  }
  __device__ __forceinline__ int FirstVisible(int position) const {
    return window > 0 ? max(position - window + 1, 0) : 0;
  }
  /// The score of a product q.k: scaled, and capped if there is a cap.
  __device__ __forceinline__ float Score(float product) const {
    const float score = product * scale;
    return softcap > 0 ? softcap * tanhf(score / softcap) : score;
  }
  /// A head's sink times log2 e, or minus infinity. Rows are (token, head of the kv head's group).
  __device__ __forceinline__ float Sink(int kv_head, int row) const {
    return sinks == nullptr ? -INFINITY : sinks[kv_head * group + row % group] * kLog2E;
  }
  __device__ __forceinline__ const bf16* QueryRow(int first_token, int kv_head, int row) const {
    return static_cast<const bf16*>(q) + (first_token + row / group) * q_stride +
           (kv_head * group + row % group) * q_head_stride;
  }
  __device__ __forceinline__ bf16* OutRow(int first_token, int kv_head, int row) const {
    return static_cast<bf16*>(out) + (first_token + row / group) * out_stride +
           (kv_head * group + row % group) * out_head_stride;
  }
  /// Eight columns of a query to shared memory, asynchronously where they may be; zeros in the
  /// padding, or unless `valid`.
  __device__ __forceinline__ void CopyQueries(void* dst, const bf16* row, int column,
                                              bool valid = true) const {
    if (q_is_packs) {
      CopyAsync16OrZero(dst, row + column, valid && column < cache.head_dim);
      return;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      static_cast<bf16*>(dst)[i] =
          valid && column + i < cache.head_dim ? row[column + i] : __float2bfloat16(0.0F);
    }
  }
  /// Eight columns of an output row.
  __device__ __forceinline__ void StoreVector(bf16* row, int column, const uint4& vector) const {
    if (out_is_packs) {
      if (column < cache.head_dim) *reinterpret_cast<uint4*>(row + column) = vector;
      return;
    }
    const uint32_t words[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const auto bits = static_cast<uint16_t>(words[i / 2] >> i % 2 * 16);
      if (column + i < cache.head_dim) row[column + i] = __ushort_as_bfloat16(bits);
    }
  }
  /// Row of a tensor map of a block, [row of keys or values][column], where a key lies; its value
  /// is kv_heads * block_tokens rows on.
  __device__ __forceinline__ int MapRow(int kv_head, int position) const {
    const int block_tokens = 1 << cache.block_shift;
    return (layer * cache.rows_per_token + kv_head) * block_tokens +
           (position & (block_tokens - 1));
  }
  /// Of a quantized cache: which tile of a block a position is in.
  __device__ __forceinline__ int TileNumber(int kv_head, int position) const {
    const int offset = position & ((1 << cache.block_shift) - 1);
    return (((layer * cache.kv_heads + kv_head) << cache.block_shift) + offset) / kKvTile;
  }
  /// Of a quantized cache: `head` is a kv head, for values that of ValueHead.
  __device__ __forceinline__ KvRow CachedKvRow(const int32_t* table, int head, int position) const {
    const int offset = position & ((1 << cache.block_shift) - 1);
    return KvRowAt(cache, table[position >> cache.block_shift], layer, head, offset);
  }
  /// A latent cache has both in one row.
  __device__ __forceinline__ int ValueHead(int kv_head) const {
    return kv_head + cache.rows_per_token - cache.kv_heads;
  }
  /// Keys of `kv_head` at `position`; values are values_offset elements on.
  template <class T>
  __device__ __forceinline__ const T* CachedRow(const int32_t* table, int kv_head,
                                                int position) const {
    const int block_tokens = 1 << cache.block_shift;
    const char* block = cache.blocks + table[position >> cache.block_shift] * cache.block_bytes;
    const int64_t row = (int64_t{layer} * cache.rows_per_token + kv_head) * block_tokens +
                        (position & (block_tokens - 1));
    return reinterpret_cast<const T*>(block) + row * cache.padded_dim;
  }
  __device__ __forceinline__ int64_t ValuesOffset() const {
    if (cache.rows_per_token == cache.kv_heads) return cache.head_dim - cache.value_dim;
    return (static_cast<int64_t>(cache.kv_heads) << cache.block_shift) * cache.padded_dim;
  }
};

/// Maximum and sum of a softmax over part of the positions, and how they and any weighted sum of
/// values go together with those of a later part.
struct SoftmaxStats {
  float max = -INFINITY;
  float sum = 0;
  float keep = 1;  // factors of the last Merge, for the weighted sums
  float take = 0;

  /// Before any position: nothing, or the head's sink, a score of no value.
  __device__ __forceinline__ void Begin(const float* sinks, int head) {
    if (sinks == nullptr) return;
    max = sinks[head] * kLog2E;
    sum = 1;
  }

  __device__ __forceinline__ void Merge(float part_max, float part_sum) {
    const float merged = fmaxf(max, part_max);
    const float base = merged == -INFINITY ? 0.0F : merged;
    keep = exp2f(max - base);
    take = exp2f(part_max - base);
    sum = __fmaf_rn(part_sum, take, __fmul_rn(sum, keep));
    max = merged;
  }
  __device__ __forceinline__ float Merged(float total, float part) const {
    return __fmaf_rn(part, take, __fmul_rn(total, keep));
  }
};

template <int kDim>
struct AttentionTile {
  static constexpr int kWarps = kDim > 128 ? 2 : 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRows = kWarps * 16;
  static constexpr int kPositions = kDim > 128 ? 16 : 32;
  static constexpr int kPitch = kDim + 8;  // elements; rows of a fragment load hit all banks
  static constexpr int kKvElements = kPositions * kPitch;
  static constexpr int kQueryElements = kRows * kPitch;
  static constexpr int kFragments = kDim / 8;
  /// Queries, two stages of keys and values, and totals over chunks (of items with all chunks).
  static constexpr size_t kSharedBytes = sizeof(bf16) * (kQueryElements + 4 * kKvElements);
  static constexpr size_t kTotalBytes = sizeof(float) * kRows * kDim;
};

/// Whether this block is the last one to finish a chunk of the item's sequence and kv head: it then
/// sees what the others have written. Called by all threads.
__device__ __forceinline__ bool FinishesLastChunk(const AttentionParams& p,
                                                  const AttentionItem& item, int kv_head) {
  __threadfence();  // the results before the count
  __syncthreads();
  bool is_last = false;
  if (threadIdx.x == 0) {
    int32_t* counter = p.chunk_counters + item.counter * p.cache.kv_heads + kv_head;
    is_last = atomicAdd(counter, 1) == item.num_chunks - 1;
    if (is_last) *counter = 0;  // for the next layer
  }
  is_last = __syncthreads_or(is_last);
  __threadfence();
  return is_last;
}

/// Merges all chunks of a split sequence, for one kv head. Past L1, which knows nothing of what
/// other blocks write.
__device__ __forceinline__ void MergeChunks(const AttentionParams& p, const AttentionItem& item,
                                            int kv_head) {
  const int rows = item.num_tokens * p.group;
  for (int row = threadIdx.x / kWarp; row < rows; row += blockDim.x / kWarp) {
    bf16* dst = static_cast<bf16*>(p.out) + (item.first_token + row / p.group) * p.out_stride +
                (kv_head * p.group + row % p.group) * p.out_head_stride;
    for (int d = threadIdx.x % kWarp; d < p.cache.value_dim; d += kWarp) {
      SoftmaxStats total;
      total.Begin(p.sinks, kv_head * p.group + row % p.group);
      float value = 0;
#pragma unroll 4
      for (int chunk = 0; chunk < item.num_chunks; ++chunk) {
        const int64_t partial =
            item.first_partial + (int64_t{chunk} * p.cache.kv_heads + kv_head) * rows + row;
        const float2 stats = __ldcg(&p.partial_stats[partial]);
        total.Merge(stats.x, stats.y);
        value = total.Merged(value, __ldcg(&p.partial_out[partial * p.cache.padded_dim + d]));
      }
      dst[d] = __float2bfloat16(value / total.sum);
    }
  }
}

/// Keys and then values of a tile of a quantized cache to shared memory; zeros where nobody sees
/// them. By the whole block.
template <int kDim, KvFormat kFormat>
__device__ __forceinline__ void CopyDequantized(const AttentionParams& p, const int32_t* table,
                                                int kv_head, int tile, int seen_begin, int seen_end,
                                                bf16* dst) {
  using Tile = AttentionTile<kDim>;
  constexpr int kUnits = kDim / kKvUnit;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * Tile::kPositions * kUnits;
       i += Tile::kThreads) {
    const int row = i / kUnits;
    const int position = tile * Tile::kPositions + row % Tile::kPositions;
    uint4 elements[2] = {};
    if (position >= seen_begin && position < seen_end) {
      const int head = row < Tile::kPositions ? kv_head : p.ValueHead(kv_head);
      KvUnit<kFormat> unit;
      unit.Load(p.CachedKvRow(table, head, position), i % kUnits);
      unit.Dequantize(elements);
    }
    auto* out = reinterpret_cast<uint4*>(dst + row * Tile::kPitch + i % kUnits * kKvUnit);
    out[0] = elements[0];
    out[1] = elements[1];
  }
}

/// One item for one kv head, by the whole block.
template <int kDim, bool kQuantized>
__device__ __forceinline__ void Attend(const AttentionParams& p, const AttentionItem& item,
                                       int kv_head, bf16* shared) {
  using Tile = AttentionTile<kDim>;
  constexpr int kPositions = Tile::kPositions;
  constexpr int kScoreTiles = kPositions / 8;
  constexpr int kVectors = kDim / 8;  // 16 bytes each
  bf16* queries = shared;
  bf16* kv = shared + Tile::kQueryElements;  // [stage][k, v][position][kPitch]
  // [fragment * 4 + i][thread]: a thread's own, in the order of its accumulators
  float* totals = reinterpret_cast<float*>(kv + 4 * Tile::kKvElements);

  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int g = lane / 4;
  const int t = lane % 4;
  const int first_position = p.seq_lens[item.sequence] - item.num_tokens;  // of the step
  const int num_rows = item.num_tokens * p.group;
  const int rows = min(Tile::kRows, num_rows - item.first_row);
  const int32_t* table = p.block_tables + item.sequence * p.table_stride;

  // Positions that some row of the item sees: [begin, end).
  const int lowest = first_position + item.first_row / p.group;
  int begin = p.FirstVisible(lowest);
  int end = first_position + (item.first_row + rows - 1) / p.group + 1;
  const int seen_begin = begin;
  const int seen_end = end;
  if (item.chunk >= 0) {
    const int chunk = begin / kChunk + item.chunk;
    begin = max(begin, chunk * kChunk);
    end = min(end, (chunk + 1) * kChunk);
  }

  const auto copy_tile = [&](int tile, int stage) {
    bf16* dst = kv + stage * 2 * Tile::kKvElements;
    if constexpr (kQuantized) {
      WithFormat(p.cache.format, [&](auto format) {
        CopyDequantized<kDim, decltype(format)::value>(p, table, kv_head, tile, seen_begin,
                                                       seen_end, dst);
      });
    } else {
      for (int i = threadIdx.x; i < kPositions * kVectors; i += Tile::kThreads) {
        const int position = tile * kPositions + i / kVectors;
        const int column = i % kVectors * 8;
        // What nobody sees may be anything, even NaN; as zeros it adds nothing.
        const bool valid = position >= seen_begin && position < seen_end;
        const bf16* row = p.CachedRow<bf16>(table, kv_head, valid ? position : seen_begin) + column;
        const int at = i / kVectors * Tile::kPitch + column;
        CopyAsync16OrZero(dst + at, row, valid);
        CopyAsync16OrZero(dst + Tile::kKvElements + at, row + p.ValuesOffset(), valid);
      }
    }
  };
  const int first_tile = begin / kPositions;
  const int last_tile = begin < end ? (end - 1) / kPositions : first_tile - 1;
  if (first_tile <= last_tile) copy_tile(first_tile, 0);
  CommitCopies();

  // Queries, zero in the padding and in rows past the end.
  for (int i = threadIdx.x; i < Tile::kRows * kVectors; i += Tile::kThreads) {
    const int r = i / kVectors;
    const int column = i % kVectors * 8;
    bf16* dst = queries + r * Tile::kPitch + column;
    const int row = item.first_row + r;
    const bf16* src = static_cast<const bf16*>(p.q) +
                      (item.first_token + row / p.group) * p.q_stride +
                      (kv_head * p.group + row % p.group) * p.q_head_stride + column;
    if (p.q_is_packs) {
      const bool valid = r < rows && column < p.cache.head_dim;
      *reinterpret_cast<uint4*>(dst) =
          valid ? *reinterpret_cast<const uint4*>(src) : uint4{0, 0, 0, 0};
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const bool valid = r < rows && column + j < p.cache.head_dim;
        dst[j] = valid ? src[j] : __float2bfloat16(0.0F);
      }
    }
  }
  if (item.chunk < 0) {
#pragma unroll
    for (int i = 0; i < Tile::kFragments * 4; ++i) totals[i * Tile::kThreads + threadIdx.x] = 0;
  }

  // This lane's rows: g and g + 8 of its warp. Rows past the end see nothing.
  int position[2];
  int visible[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + g + h * 8;
    position[h] = r < rows ? first_position + (item.first_row + r) / p.group : -1;
    visible[h] = p.FirstVisible(position[h]);
  }
  const int warp_rows = min(rows - warp * 16, 16);
  const int warp_end =
      warp_rows > 0 ? first_position + (item.first_row + warp * 16 + warp_rows - 1) / p.group + 1
                    : 0;
  const float scale = (p.softcap > 0 ? 1.0F : p.scale) * kLog2E;

  SoftmaxStats total[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int row = item.first_row + warp * 16 + g + h * 8;
    total[h].Begin(p.sinks, kv_head * p.group + row % p.group);
  }
  float acc[Tile::kFragments][4] = {};
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};
  for (int tile = first_tile; tile <= last_tile; ++tile) {
    const int stage = (tile - first_tile) & 1;
    if (tile < last_tile) copy_tile(tile + 1, stage ^ 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const bf16* keys = kv + stage * 2 * Tile::kKvElements;
    const bf16* values = keys + Tile::kKvElements;
    const int tile_begin = tile * kPositions;
    if (tile_begin < warp_end) {
      float scores[kScoreTiles][4] = {};
#pragma unroll
      for (int d = 0; d < kDim; d += 16) {
        uint32_t q[4];
        LoadMatrices(q, queries + (warp * 16 + lane % 16) * Tile::kPitch + d + lane / 16 * 8);
#pragma unroll
        for (int n = 0; n < kScoreTiles; n += 2) {
          // Matrices: positions n * 8 on, dims d and d + 8; positions n * 8 + 8 on, the same.
          uint32_t k[4];
          LoadMatrices(
              k, keys + (n * 8 + lane % 8 + lane / 16 * 8) * Tile::kPitch + d + lane / 8 % 2 * 8);
          MmaBf16(scores[n], q[0], q[1], q[2], q[3], k[0], k[1]);
          MmaBf16(scores[n + 1], q[0], q[1], q[2], q[3], k[2], k[3]);
        }
      }
      if (p.softcap > 0) {
#pragma unroll
        for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) scores[n][i] = p.Score(scores[n][i]);
        }
      }
      float tile_max[2] = {max[0], max[1]};
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = tile_begin + n * 8 + t * 2 + i % 2;
          const bool seen = at <= position[i / 2] && at >= visible[i / 2];
          scores[n][i] = seen ? scores[n][i] * scale : -INFINITY;
          tile_max[i / 2] = fmaxf(tile_max[i / 2], scores[n][i]);
        }
      }
      float rescale[2];
      float base[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        tile_max[h] = fmaxf(tile_max[h], __shfl_xor_sync(~0U, tile_max[h], 1));
        tile_max[h] = fmaxf(tile_max[h], __shfl_xor_sync(~0U, tile_max[h], 2));
        base[h] = tile_max[h] == -INFINITY ? 0.0F : tile_max[h];
        rescale[h] = exp2f(max[h] - base[h]);
        max[h] = tile_max[h];
        sum[h] *= rescale[h];
      }
#pragma unroll
      for (int n = 0; n < kScoreTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          scores[n][i] = exp2f(scores[n][i] - base[i / 2]);
          sum[i / 2] += scores[n][i];
        }
      }
#pragma unroll
      for (int f = 0; f < Tile::kFragments; ++f) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[f][i] *= rescale[i / 2];
      }
#pragma unroll
      for (int n = 0; n < kScoreTiles; n += 2) {
        // An accumulator's layout is that of operand A, two tiles side by side.
        const uint32_t w0 = PackBf16(scores[n][0], scores[n][1]);
        const uint32_t w1 = PackBf16(scores[n][2], scores[n][3]);
        const uint32_t w2 = PackBf16(scores[n + 1][0], scores[n + 1][1]);
        const uint32_t w3 = PackBf16(scores[n + 1][2], scores[n + 1][3]);
#pragma unroll
        for (int f = 0; f < Tile::kFragments; f += 2) {
          // Matrices: positions n * 8 and n * 8 + 8 on, dims f * 8 on; the same, dims f * 8 + 8 on.
          uint32_t v[4];
          LoadMatricesTransposed(
              v, values + (n * 8 + lane % 16) * Tile::kPitch + f * 8 + lane / 16 * 8);
          MmaBf16(acc[f], w0, w1, w2, w3, v[0], v[1]);
          MmaBf16(acc[f + 1], w0, w1, w2, w3, v[2], v[3]);
        }
      }
    }

    const bool chunk_ends = (tile + 1) % (kChunk / kPositions) == 0 || tile == last_tile;
    if (chunk_ends) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum[h] += __shfl_xor_sync(~0U, sum[h], 1);
        sum[h] += __shfl_xor_sync(~0U, sum[h], 2);
      }
      if (item.chunk < 0) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          total[h].Merge(max[h], sum[h]);
          max[h] = -INFINITY;
          sum[h] = 0;
        }
#pragma unroll
        for (int f = 0; f < Tile::kFragments; ++f) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& slot = totals[(f * 4 + i) * Tile::kThreads + threadIdx.x];
            slot = total[i / 2].Merged(slot, acc[f][i]);
            acc[f][i] = 0;
          }
        }
      }
    }
    __syncthreads();  // before the stage is copied to again
  }

#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + g + h * 8;
    if (r >= rows) continue;
    const int row = item.first_row + r;
    if (item.chunk >= 0) {
      const int64_t partial =
          item.first_partial + (int64_t{item.chunk} * p.cache.kv_heads + kv_head) * num_rows + row;
      if (t == 0) p.partial_stats[partial] = {max[h], sum[h]};
      float* dst = p.partial_out + partial * kDim;
#pragma unroll
      for (int f = 0; f < Tile::kFragments; ++f) {
        *reinterpret_cast<float2*>(dst + f * 8 + t * 2) = {acc[f][h * 2], acc[f][h * 2 + 1]};
      }
    } else {
      bf16* dst = static_cast<bf16*>(p.out) + (item.first_token + row / p.group) * p.out_stride +
                  (kv_head * p.group + row % p.group) * p.out_head_stride;
#pragma unroll
      for (int f = 0; f < Tile::kFragments; ++f) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int d = f * 8 + t * 2 + i;
          const float value = totals[(f * 4 + h * 2 + i) * Tile::kThreads + threadIdx.x];
          if (d < p.cache.head_dim) dst[d] = __float2bfloat16(value / total[h].sum);
        }
      }
    }
  }
}

template <int kDim, bool kQuantized>
__global__ void __launch_bounds__(AttentionTile<kDim>::kThreads)
    AttentionMmaKernel(AttentionParams p) {
  extern __shared__ __align__(128) bf16 shared[];
  LaunchDependents();
  WaitForPrerequisites();
  const int num_items = p.NumItems();
  for (int i = static_cast<int>(blockIdx.x); i < num_items; i += static_cast<int>(gridDim.x)) {
    const AttentionItem item = p.items[i];
    const int kv_head = static_cast<int>(blockIdx.y);
    Attend<kDim, kQuantized>(p, item, kv_head, shared);
    if (item.chunk >= 0 && FinishesLastChunk(p, item, kv_head)) MergeChunks(p, item, kv_head);
    __syncthreads();  // before the next item's queries
  }
}

}  // namespace gale::cuda
