// Paged attention of bf16 queries over a bf16 or quantized latent cache (MLA) on the tensor cores:
// all query heads share one row of up to 576 elements a position, whose last part is the value. For
// devices with shared memory for two tiles of such rows (sm_90).
//
// Items, tiles, chunks and their merging are those of attention_mma.cuh; here a block's warps share
// its rows: each has eight positions of a tile when scores are made, four rows in the softmax, and
// 64 elements of the values.
#pragma once

#include "backend/cuda/attention_mma.cuh"

namespace gale::cuda {

constexpr int kLatentWarps = 8;
constexpr int kLatentThreads = kLatentWarps * kWarp;
constexpr int kLatentRows = 32;
constexpr int kLatentPositions = 8 * kLatentWarps;  // of a tile
constexpr int kLatentDepth = 32;                    // the padded width of a row is a multiple of it
constexpr int kLatentValues = 64;                   // of a warp
constexpr int kMaxLatentValueDim = kLatentValues * kLatentWarps;

/// Where things lie in shared memory. Pitches are elements, such that rows of a fragment load hit
/// all banks.
struct LatentShared {
  static constexpr int kScorePitch = kLatentPositions + 4;
  static constexpr int kWeightPitch = kLatentPositions + 8;

  bf16* queries;    // [kLatentRows][pitch]
  bf16* keys;       // [2 stages][kLatentPositions][pitch]
  float* scores;    // [kLatentRows][kScorePitch]: products q.k
  bf16* weights;    // [kLatentRows][kWeightPitch]
  float2* factors;  // [kLatentRows]: of what is there and of what comes, or 1 / sum
  int pitch;

  __host__ __device__ static constexpr int Pitch(int padded_dim) { return padded_dim + 8; }
  static constexpr size_t Bytes(int padded_dim) {
    return sizeof(bf16) *
               static_cast<size_t>((kLatentRows + 2 * kLatentPositions) * Pitch(padded_dim) +
                                   kLatentRows * kWeightPitch) +
           sizeof(float) * static_cast<size_t>(kLatentRows * (kScorePitch + 2));
  }
  __device__ LatentShared(char* memory, int padded_dim) : pitch(Pitch(padded_dim)) {
    queries = reinterpret_cast<bf16*>(memory);
    keys = queries + kLatentRows * pitch;
    weights = keys + 2 * kLatentPositions * pitch;
    scores = reinterpret_cast<float*>(weights + kLatentRows * kWeightPitch);
    factors = reinterpret_cast<float2*>(scores + kLatentRows * kScorePitch);
  }
};

/// One item by the whole block.
template <bool kQuantized>
__device__ __forceinline__ void AttendLatent(const AttentionParams& p, const AttentionItem& item,
                                             const LatentShared& shared) {
  constexpr int kRowTiles = kLatentRows / 16;
  constexpr int kFragments = kLatentValues / 8;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int g = lane / 4;
  const int t = lane % 4;
  const int first_position = p.seq_lens[item.sequence] - item.num_tokens;
  const int num_rows = item.num_tokens * p.group;
  const int rows = min(kLatentRows, num_rows - item.first_row);
  const int row_tiles = (rows + 15) / 16;
  const int32_t* table = p.block_tables + item.sequence * p.table_stride;
  const int vectors = p.cache.padded_dim / 8;  // 16 bytes each
  const int value_begin = p.cache.head_dim - p.cache.value_dim + warp * kLatentValues;
  const int values = min(p.cache.value_dim - warp * kLatentValues, kLatentValues);

  const int seen_end = first_position + (item.first_row + rows - 1) / p.group + 1;
  int begin = 0;
  int end = seen_end;
  if (item.chunk >= 0) {
    begin = item.chunk * kChunk;
    end = min(end, begin + kChunk);
  }
  const auto copy_tile = [&](int tile, int stage) {
    constexpr int kThreadsPerRow = kLatentThreads / kLatentPositions;
    const int row = static_cast<int>(threadIdx.x) / kThreadsPerRow;
    const int position = tile * kLatentPositions + row;
    // What nobody sees may be anything, even NaN; as zeros it adds nothing.
    const bool valid = position < seen_end;
    bf16* dst = shared.keys + (stage * kLatentPositions + row) * shared.pitch;
    const int first = static_cast<int>(threadIdx.x) % kThreadsPerRow;
    if constexpr (kQuantized) {
      const KvRow src = p.CachedKvRow(table, 0, valid ? position : 0);
      WithFormat(p.cache.format, [&](auto format) {
        for (int i = first; i < p.cache.padded_dim / kKvUnit; i += kThreadsPerRow) {
          uint4 elements[2] = {};
          if (valid) {
            KvUnit<decltype(format)::value> unit;
            unit.Load(src, i);
            unit.Dequantize(elements);
          }
          auto* out = reinterpret_cast<uint4*>(dst + i * kKvUnit);
          out[0] = elements[0];
          out[1] = elements[1];
        }
      });
    } else {
      const bf16* src = p.CachedRow<bf16>(table, 0, valid ? position : 0);
      for (int i = first; i < vectors; i += kThreadsPerRow) {
        CopyAsync16OrZero(dst + i * 8, src + i * 8, valid);
      }
    }
  };
  const int first_tile = begin / kLatentPositions;
  const int last_tile = begin < end ? (end - 1) / kLatentPositions : first_tile - 1;
  if (first_tile <= last_tile) copy_tile(first_tile, 0);
  CommitCopies();

  // Queries, zero in the padding and in rows past the end.
  for (int r = warp; r < kLatentRows; r += kLatentWarps) {
    const int row = item.first_row + r;
    const bf16* src = static_cast<const bf16*>(p.q) +
                      (item.first_token + row / p.group) * p.q_stride +
                      row % p.group * p.q_head_stride;
    bf16* dst = shared.queries + r * shared.pitch;
    for (int d = lane; d < p.cache.padded_dim; d += kWarp) {
      dst[d] = r < rows && d < p.cache.head_dim ? src[d] : __float2bfloat16(0.0F);
    }
  }

  // In the softmax eight lanes have a row of the warp's four, each eight positions of a tile.
  const int softmax_row = warp * 4 + lane / 8;
  const int softmax_first = lane % 8 * 8;
  const int position =
      softmax_row < rows ? first_position + (item.first_row + softmax_row) / p.group : -1;
  SoftmaxStats total;
  float max = -INFINITY;
  float sum = 0;  // of this lane's positions
  const auto over_row = [](float x, auto&& combine) {
#pragma unroll
    for (int offset = 1; offset < 8; offset <<= 1) {
      x = combine(x, __shfl_xor_sync(~0U, x, offset));
    }
    return x;
  };

  float totals[kRowTiles][kFragments][4] = {};
  float acc[kRowTiles][kFragments][4] = {};
  for (int tile = first_tile; tile <= last_tile; ++tile) {
    const int stage = (tile - first_tile) & 1;
    if (tile < last_tile) copy_tile(tile + 1, stage ^ 1);
    CommitCopies();
    WaitForCopies<1>();
    __syncthreads();
    const bf16* keys = shared.keys + stage * kLatentPositions * shared.pitch;

    float scores[kRowTiles][4] = {};
    for (int d = 0; d < p.cache.padded_dim; d += kLatentDepth) {
      uint32_t k[4];  // the warp's positions, dims d, d + 8, d + 16 and d + 24 on
      LoadMatrices(k, keys + (warp * 8 + lane % 8) * shared.pitch + d + lane / 8 * 8);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        if (m >= row_tiles) continue;
        const bf16* queries = shared.queries + (m * 16 + lane % 16) * shared.pitch + d;
        uint32_t q[4];
        LoadMatrices(q, queries + lane / 16 * 8);
        MmaBf16(scores[m], q[0], q[1], q[2], q[3], k[0], k[1]);
        LoadMatrices(q, queries + 16 + lane / 16 * 8);
        MmaBf16(scores[m], q[0], q[1], q[2], q[3], k[2], k[3]);
      }
    }
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      float* out = shared.scores + (m * 16 + g) * LatentShared::kScorePitch + warp * 8 + t * 2;
      out[0] = scores[m][0];
      out[1] = scores[m][1];
      out[8 * LatentShared::kScorePitch] = scores[m][2];
      out[8 * LatentShared::kScorePitch + 1] = scores[m][3];
    }
    __syncthreads();

    float tile_max = max;
    float weights[8];
    const float* row_scores =
        shared.scores + softmax_row * LatentShared::kScorePitch + softmax_first;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool seen = tile * kLatentPositions + softmax_first + i <= position;
      weights[i] = seen ? row_scores[i] * (p.scale * kLog2E) : -INFINITY;
      tile_max = fmaxf(tile_max, weights[i]);
    }
    tile_max = over_row(tile_max, [](float a, float b) { return fmaxf(a, b); });
    const float base = tile_max == -INFINITY ? 0.0F : tile_max;
    const float rescale = exp2f(max - base);
    max = tile_max;
    sum *= rescale;
    bf16* row_weights = shared.weights + softmax_row * LatentShared::kWeightPitch + softmax_first;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      weights[i] = exp2f(weights[i] - base);
      sum += weights[i];
      row_weights[i] = __float2bfloat16(weights[i]);
    }
    if (lane % 8 == 0) shared.factors[softmax_row].x = rescale;
    __syncthreads();

#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      if (m >= row_tiles) continue;
      const float keep[2] = {shared.factors[m * 16 + g].x, shared.factors[m * 16 + g + 8].x};
#pragma unroll
      for (int f = 0; f < kFragments; ++f) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[m][f][i] *= keep[i / 2];
      }
    }
    for (int n = 0; n < kLatentPositions; n += 16) {
      uint32_t w[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        LoadMatrices(w[m], shared.weights + (m * 16 + lane % 16) * LatentShared::kWeightPitch + n +
                               lane / 16 * 8);
      }
#pragma unroll
      for (int f = 0; f < kFragments; f += 2) {
        if (f * 8 >= values) continue;
        uint32_t v[4];
        LoadMatricesTransposed(
            v, keys + (n + lane % 16) * shared.pitch + value_begin + f * 8 + lane / 16 * 8);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          if (m >= row_tiles) continue;
          MmaBf16(acc[m][f], w[m][0], w[m][1], w[m][2], w[m][3], v[0], v[1]);
          MmaBf16(acc[m][f + 1], w[m][0], w[m][1], w[m][2], w[m][3], v[2], v[3]);
        }
      }
    }

    const bool chunk_ends = (tile + 1) % (kChunk / kLatentPositions) == 0 || tile == last_tile;
    if (chunk_ends && item.chunk < 0) {
      sum = over_row(sum, [](float a, float b) { return a + b; });
      total.Merge(max, sum);
      max = -INFINITY;
      sum = 0;
      __syncthreads();  // everybody has read the last factors
      if (lane % 8 == 0) shared.factors[softmax_row] = {total.keep, total.take};
      __syncthreads();
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        const float2 factors[2] = {shared.factors[m * 16 + g], shared.factors[m * 16 + g + 8]};
#pragma unroll
        for (int f = 0; f < kFragments; ++f) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            totals[m][f][i] = __fmaf_rn(acc[m][f][i], factors[i / 2].y,
                                        __fmul_rn(totals[m][f][i], factors[i / 2].x));
            acc[m][f][i] = 0;
          }
        }
      }
    }
    __syncthreads();  // before the stage, the scores and the factors are written again
  }

  if (item.chunk >= 0) {
    sum = over_row(sum, [](float a, float b) { return a + b; });
  } else if (lane % 8 == 0) {
    shared.factors[softmax_row].x = total.sum;
  }
  __syncthreads();
  const auto partial_row = [&](int r) {
    return item.first_partial + int64_t{item.chunk} * num_rows + item.first_row + r;
  };
  if (item.chunk >= 0 && lane % 8 == 0 && softmax_row < rows) {
    p.partial_stats[partial_row(softmax_row)] = {max, sum};
  }
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = m * 16 + g + h * 8;
      if (r >= rows) continue;
      const int row = item.first_row + r;
      const float row_sum = shared.factors[r].x;
      bf16* dst = static_cast<bf16*>(p.out) + (item.first_token + row / p.group) * p.out_stride +
                  row % p.group * p.out_head_stride + warp * kLatentValues;
      float* partial = item.chunk < 0 ? nullptr
                                      : p.partial_out + partial_row(r) * p.cache.padded_dim +
                                            warp * kLatentValues;
#pragma unroll
      for (int f = 0; f < kFragments; ++f) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int d = f * 8 + t * 2 + i;
          if (d >= values) continue;
          if (partial != nullptr) {
            partial[d] = acc[m][f][h * 2 + i];
          } else {
            dst[d] = __float2bfloat16(totals[m][f][h * 2 + i] / row_sum);
          }
        }
      }
    }
  }
}

/// Blocks: an item each, and go on by the grid's width.
/// Cost: each item reads its positions' rows once; 2 * (head_dim + value_dim) FLOPs a row and
/// position.
template <bool kQuantized>
__global__ void __launch_bounds__(kLatentThreads, 1) AttentionLatentKernel(AttentionParams p) {
  extern __shared__ __align__(128) char latent_memory[];
  const LatentShared shared(latent_memory, p.cache.padded_dim);
  LaunchDependents();
  WaitForPrerequisites();
  const int num_items = p.NumItems();
  for (int i = static_cast<int>(blockIdx.x); i < num_items; i += static_cast<int>(gridDim.x)) {
    const AttentionItem item = p.items[i];
    AttendLatent<kQuantized>(p, item, shared);
    if (item.chunk >= 0 && FinishesLastChunk(p, item, 0)) MergeChunks(p, item, 0);
    __syncthreads();  // before the next item's queries
  }
}

}  // namespace gale::cuda
