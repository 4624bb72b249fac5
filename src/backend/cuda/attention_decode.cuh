// Paged attention of few rows a sequence on Hopper, where to read keys and values is all that
// counts: up to 16 rows, tokens of the step times query heads of a kv head.
//
// The cached tiles of all (sequence, kv head) pairs stand in one line, which is cut into equal
// shares, a block each, whatever the lengths. Warps bring a block's tiles by tensor copies, far
// ahead; others take them in turn, each with a softmax of its own, and add up where the tiles of a
// pair end. Pairs that several blocks share are merged by the block that finishes last.
#pragma once

#include <climits>

#include "backend/cuda/attention_hopper.cuh"

namespace gale::cuda {

/// A sequence of few rows.
struct DecodeSequence {
  int32_t sequence;
  int32_t first_token;
  int32_t num_tokens;
  int32_t first_tile;  // tiles of the sequences before; a last entry has but this
};

struct DecodeHeader {
  int32_t num_sequences;
  int32_t num_tiles;  // of all pairs
  int32_t share;      // tiles of a block
  int32_t padding;
};

struct DecodePlan {
  const DecodeHeader* header;
  const DecodeSequence* sequences;
};

constexpr int kDecodeRows = 16;
constexpr int kDecodePositions = 16;  // of a tile

template <int kDim, KvFormat kFormat>
struct DecodeTile {
  static constexpr bool kQuantized = IsQuantized(kFormat);
  // Codes are more work a byte; registers set the bound.
  static constexpr int kWarps = kDim > (kQuantized ? 128 : 64) ? 4 : 8;
  static constexpr int kCopyWarps = 2;
  static constexpr int kConsumers = kWarps * kWarp;
  static constexpr int kThreads = kConsumers + (kCopyWarps + 1) * kWarp;
  static constexpr int kRowBytes = static_cast<int>(KvRowBytes(kFormat, kDim));
  static constexpr int kKeyBytes = kDecodePositions * kRowBytes;
  static constexpr int kSlabs = kDim / 64;  // of bf16
  static constexpr int kSlabBytes = kKeyBytes / kSlabs;
  static constexpr int kStageBytes = kQuantized ? KvTileBytes(2, kRowBytes) : 2 * kKeyBytes;
  // Enough on its way to fill the time that memory takes. A multiple of kWarps and kCopyWarps: a
  // stage is always the same warps', which thus never mistake its parity.
  static constexpr int kStages = ((kRowBytes > 256 ? 128 : 96) << 10) / (2 * kKeyBytes);
  static constexpr int kPitch = kDim + 8;                           // elements of a row of queries
  static constexpr int kSumPitch = kQuantized ? kDim + 4 : kPitch;  // of sums to merge
  static constexpr int kSegments = 2;  // whose queries are there or on their way
  static constexpr int kQueryElements = kDecodeRows * kPitch;
  static constexpr int kAlignment = 1024;
  static_assert(kStages % kWarps == 0 && kStages % kCopyWarps == 0);

  /// `rows`: the most that a sequence has.
  static constexpr size_t SharedBytes(int rows) {
    return kStages * kStageBytes + kSegments * kQueryElements * sizeof(bf16) +
           static_cast<size_t>(kWarps * rows * kSumPitch) * sizeof(float) + kAlignment;
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Consecutive tiles of one (sequence, kv head) pair that belong to a block.
struct DecodeSegment {
  DecodeSequence of;
  int kv_head;
  int first;       // tile, counted from the first that the sequence sees
  int count;       // tiles
  int pair_begin;  // the pair's tiles on the line
  int pair_end;

  __device__ bool IsWhole() const { return count == pair_end - pair_begin; }
};

/// Goes over a block's segments; the next sequence is always on its way.
class DecodeWalk {
 public:
  __device__ DecodeWalk(const DecodePlan& plan, int kv_heads)
      : sequences_(plan.sequences), kv_heads_(kv_heads) {
    const DecodeHeader header = *plan.header;
    share_ = header.share;
    at_ = static_cast<int>(blockIdx.x) * share_;
    end_ = min(at_ + share_, header.num_tiles);
    if (at_ >= end_) return;
    int index = 0;
    int high = header.num_sequences;
    while (high - index > 1) {
      const int middle = (index + high) / 2;
      (sequences_[middle].first_tile * kv_heads <= at_ ? index : high) = middle;
    }
    sequences_ += index;
    now_ = sequences_[0];
    next_ = sequences_[1];
  }

  __device__ int NumTiles() const { return max(end_ - at_, 0); }
  __device__ int share() const { return share_; }

  __device__ bool Next(DecodeSegment* segment) {
    if (at_ >= end_) return false;
    if (at_ >= next_.first_tile * kv_heads_) {
      now_ = next_;
      next_ = (++sequences_)[1];
    }
    const int begin = now_.first_tile * kv_heads_;
    const int tiles = next_.first_tile - now_.first_tile;
    segment->of = now_;
    segment->kv_head = (at_ - begin) / tiles;
    segment->pair_begin = begin + segment->kv_head * tiles;
    segment->pair_end = segment->pair_begin + tiles;
    segment->first = at_ - segment->pair_begin;
    segment->count = min(segment->pair_end, end_) - at_;
    at_ += segment->count;
    return true;
  }

 private:
  const DecodeSequence* sequences_;  // from the present one on
  int kv_heads_;
  int share_;
  int at_;
  int end_;
  DecodeSequence now_;
  DecodeSequence next_;
};

/// What the block's warps share beside the tiles.
template <class Tile>
struct DecodeShared {
  DecodeSegment segments[Tile::kSegments];
  int seq_lens[Tile::kSegments];
  float2 stats[Tile::kWarps][kDecodeRows];  // maximum and sum
  int is_last;
  uint64_t full[Tile::kStages];
  uint64_t empty[Tile::kStages];
  uint64_t segment_full[Tile::kSegments];
  uint64_t segment_empty[Tile::kSegments];

  __device__ void Init() {
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&full[i], 1);
      MbarrierInit(&empty[i], 1);
    }
    for (int i = 0; i < Tile::kSegments; ++i) {
      MbarrierInit(&segment_full[i], kWarp + 1);
      MbarrierInit(&segment_empty[i], Tile::kWarps);
    }
    FenceBarrierInit();
  }
};

/// Where a warp's next tiles lie: each lane has one, on its way from the block table.
struct DecodeBatch {
  int count = 0;  // tiles
  int number;     // of lane 0's tile in the block; those of others are kCopyWarps apart
  int block;      // the lane's; -1: none, to be copied as zeros
  int row;        // of the map: of the tile's first key; of a quantized cache, the tile's number
};

/// Lists every kCopyWarps-th tile of the block, from the warp's own on.
template <class Tile>
class DecodeTileList {
 public:
  __device__ DecodeTileList(const AttentionParams& p, const DecodeWalk& walk, int warp)
      : p_(p), walk_(walk), warp_(warp) {
    segment_.count = 0;
  }

  __device__ DecodeBatch Next() {
    constexpr int kStep = Tile::kCopyWarps;
    DecodeBatch batch;
    while (tile_ >= segment_.count) {
      begun_ += segment_.count;
      if (!walk_.Next(&segment_)) return batch;
      // Without a window the length does not matter: where it is less than what was planned for,
      // the table may hold anything, but nothing of what comes is seen.
      end_ = p_.window > 0 ? p_.seq_lens[segment_.of.sequence] : INT_MAX;
      const int visible = p_.window > 0 ? p_.FirstVisible(end_ - segment_.of.num_tokens) : 0;
      first_ = segment_.first + visible / kDecodePositions;
      tile_ = (warp_ - begun_ % kStep + kStep) % kStep;
    }
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    batch.count = min(kWarp, (segment_.count - tile_ + kStep - 1) / kStep);
    batch.number = begun_ + tile_;
    const int position = (first_ + tile_ + lane * kStep) * kDecodePositions;
    const bool valid = lane < batch.count && position < end_;
    const int32_t* table = p_.block_tables + segment_.of.sequence * p_.table_stride;
    batch.block = valid ? table[position >> p_.cache.block_shift] : -1;
    batch.row = Tile::kQuantized ? p_.TileNumber(segment_.kv_head, position)
                                 : p_.MapRow(segment_.kv_head, position);
    tile_ += kWarp * kStep;
    return batch;
  }

 private:
  const AttentionParams& p_;
  DecodeWalk walk_;
  int warp_;
  DecodeSegment segment_;
  int begun_ = 0;  // tiles of segments before
  int tile_ = 0;   // of the segment, where the next batch begins
  int first_ = 0;  // tile of the segment's first one, from position 0
  int end_ = 0;    // position
};

template <class Tile>
__device__ __forceinline__ void CopyDecodeTiles(const CUtensorMap& map, const AttentionParams& p,
                                                const DecodeWalk& walk, int warp, uint8_t* stages,
                                                DecodeShared<Tile>& shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int value_rows = p.cache.kv_heads << p.cache.block_shift;
  DecodeTileList<Tile> list(p, walk, warp);
  // Plan and block table depend on no kernel, but seq_lens may.
  if (p.window > 0) WaitForPrerequisites();
  DecodeBatch batch = list.Next();
  WaitForPrerequisites();
  while (batch.count > 0) {
    const DecodeBatch next = list.Next();
    for (int j = 0; j < batch.count; ++j) {
      const int row = __shfl_sync(~0U, batch.row, j);
      const int block = __shfl_sync(~0U, batch.block, j);
      if (lane != 0) continue;
      const int number = batch.number + j * Tile::kCopyWarps;
      const int stage = number % Tile::kStages;
      uint64_t* full = &shared.full[stage];
      uint8_t* dst = stages + stage * Tile::kStageBytes;
      MbarrierWait(&shared.empty[stage], (number / Tile::kStages & 1) ^ 1);
      MbarrierArriveExpect(full, Tile::kStageBytes);
      if constexpr (Tile::kQuantized) {
        // A block that is none may hold anything.
        const bool is_block =
            static_cast<unsigned>(block) < static_cast<unsigned>(p.cache.num_blocks);
        const char* src = p.cache.blocks + (is_block ? block : 0) * p.cache.block_bytes +
                          int64_t{row} * Tile::kStageBytes;
        CopyBytes(dst, src, Tile::kStageBytes, full, kEvictFirst);
      } else {
        CopyBox(dst, map, {0, row, 0, block}, full, kEvictFirst);
        CopyBox(dst + Tile::kKeyBytes, map, {0, row + value_rows, 0, block}, full, kEvictFirst);
      }
    }
    batch = next;
  }
}

/// Copies the queries of each segment, and says which it is; a warp.
template <int kDim, class Tile>
__device__ __forceinline__ void CopyDecodeQueries(const AttentionParams& p, DecodeWalk walk,
                                                  bf16* queries, DecodeShared<Tile>& shared) {
  constexpr int kVectors = kDim / 8;  // 16 bytes each
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  DecodeSegment segment;
  for (int n = 0; walk.Next(&segment); ++n) {
    const int slot = n % Tile::kSegments;
    MbarrierWait(&shared.segment_empty[slot], (n / Tile::kSegments & 1) ^ 1);
    // What is in the other rows does not matter: they see nothing.
    const int rows = segment.of.num_tokens * p.group;
    for (int i = lane; i < rows * kVectors; i += kWarp) {
      const int row = i / kVectors;
      const int column = i % kVectors * 8;
      p.CopyQueries(queries + slot * Tile::kQueryElements + row * Tile::kPitch + column,
                    p.QueryRow(segment.of.first_token, segment.kv_head, row), column);
    }
    if (lane == 0) {
      CopyAsync4(&shared.seq_lens[slot], p.seq_lens + segment.of.sequence);
      shared.segments[slot] = segment;
    }
    MbarrierArriveWhenCopied(&shared.segment_full[slot]);
    __syncwarp();
    if (lane == 0) MbarrierArrive(&shared.segment_full[slot]);
  }
}

/// A pair's rows as a warp has them: queries, and what has been summed up. Those of quantized
/// caches are in attention_decode_quantized.cuh.
template <int kDim, KvFormat kFormat, int kRows>
struct DecodeRows;

/// Lane (g, t) has rows g and g + 8.
template <int kDim>
struct DecodeRows<kDim, KvFormat::kBf16, kDecodeRows> {
  using Tile = DecodeTile<kDim, KvFormat::kBf16>;

  uint32_t q[kDim / 16][4];
  float acc[kDim / 8][4] = {};
  float max[2] = {-INFINITY, -INFINITY};  // of scores * log2 e
  float sum[2] = {0, 0};                  // of this lane's positions
  int position[2];                        // last one seen; -1: none
  int visible[2];                         // first one seen
  int seq_len;

  __device__ __forceinline__ DecodeRows(const AttentionParams& p, const bf16* queries,
                                        const DecodeSegment& segment, int length)
      : seq_len(length) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      LoadMatrices(q[k], queries + lane % 16 * Tile::kPitch + k * 16 + lane / 16 * 8);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = lane / 4 + h * 8;
      position[h] = row < segment.of.num_tokens * p.group
                        ? length - segment.of.num_tokens + row / p.group
                        : -1;
      visible[h] = p.FirstVisible(position[h]);
    }
  }

  /// Takes a tile that begins at position `begin`.
  __device__ __forceinline__ void Add(const AttentionParams& p, const uint8_t* keys, int begin) {
    const uint8_t* values = keys + Tile::kKeyBytes;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int t = lane % 4;
    float scores[2][4] = {};
    const int key_row = lane % 8 + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const int vector = (k % 4 * 2 + lane / 8 % 2) ^ (key_row & 7);
      uint32_t m[4];
      LoadMatrices(m, keys + k / 4 * Tile::kSlabBytes + key_row * kSwizzledRow + vector * 16);
      MmaBf16(scores[0], q[k][0], q[k][1], q[k][2], q[k][3], m[0], m[1]);
      MmaBf16(scores[1], q[k][0], q[k][1], q[k][2], q[k][3], m[2], m[3]);
    }
    if (p.softcap > 0) {
#pragma unroll
      for (auto& fragment : scores) {
#pragma unroll
        for (float& score : fragment) score = CappedScore(p, score);
      }
    }
    const float scale = ExponentScale(p);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float tile_max = max[h];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = begin + n * 8 + t * 2 + i;
          float& score = scores[n][2 * h + i];
          score = at <= position[h] && at >= visible[h] ? score * scale : -INFINITY;
          tile_max = fmaxf(tile_max, score);
        }
      }
      tile_max = fmaxf(tile_max, __shfl_xor_sync(~0U, tile_max, 1));
      tile_max = fmaxf(tile_max, __shfl_xor_sync(~0U, tile_max, 2));
      const float base = tile_max == -INFINITY ? 0.0F : tile_max;
      const float keep = Exp2(max[h] - base);
      max[h] = tile_max;
      sum[h] *= keep;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 2 * h; i < 2 * h + 2; ++i) {
          scores[n][i] = Exp2(scores[n][i] - base);
          sum[h] += scores[n][i];
        }
      }
#pragma unroll
      for (auto& fragment : acc) {
        fragment[2 * h] *= keep;
        fragment[2 * h + 1] *= keep;
      }
    }
    // An accumulator's layout is that of operand A, two tiles side by side.
    const uint32_t w[4] = {
        PackBf16(scores[0][0], scores[0][1]), PackBf16(scores[0][2], scores[0][3]),
        PackBf16(scores[1][0], scores[1][1]), PackBf16(scores[1][2], scores[1][3])};
    // What was never written may be anything, even NaN; as zeros it adds nothing.
    const auto written = [&](int at) {
      return (at < seq_len ? 0xFFFFU : 0U) | (at + 1 < seq_len ? 0xFFFF0000U : 0U);
    };
    const uint32_t low = written(begin + t * 2);
    const uint32_t high = written(begin + t * 2 + 8);
    const int value_row = lane % 16;
#pragma unroll
    for (int f = 0; f < kDim / 8; f += 2) {
      const int vector = (f % 8 + lane / 16) ^ (value_row & 7);
      uint32_t m[4];
      LoadMatricesTransposed(
          m, values + f / 8 * Tile::kSlabBytes + value_row * kSwizzledRow + vector * 16);
      MmaBf16(acc[f], w[0], w[1], w[2], w[3], m[0] & low, m[1] & high);
      MmaBf16(acc[f + 1], w[0], w[1], w[2], w[3], m[2] & low, m[3] & high);
    }
  }

  /// Leaves `rows` rows to be merged: rows of kSumPitch sums, and stats.
  __device__ __forceinline__ void Leave(float* sums, float2* stats, int rows) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sum[h] += __shfl_xor_sync(~0U, sum[h], 1);
      sum[h] += __shfl_xor_sync(~0U, sum[h], 2);
      const int row = lane / 4 + h * 8;
      if (row >= rows) continue;
      if (lane % 4 == 0) stats[row] = {max[h], sum[h]};
      float* dst = sums + row * Tile::kSumPitch + lane % 4 * 2;
#pragma unroll
      for (int f = 0; f < kDim / 8; ++f) {
        *reinterpret_cast<float2*>(dst + f * 8) = {acc[f][2 * h], acc[f][2 * h + 1]};
      }
    }
  }
};

/// Partial rows: a block has two places, for a pair that began in a block before, and for one that
/// goes on in the next.
__device__ __forceinline__ int64_t DecodePartial(int block, bool begins_pair, int row) {
  return int64_t{2 * block + (begins_pair ? 1 : 0)} * kDecodeRows + row;
}

template <int kDim, KvFormat kFormat, int kRows, class Tile>
__device__ __forceinline__ void ConsumeDecodeTiles(const AttentionParams& p, const DecodeWalk& walk,
                                                   const uint8_t* stages, const bf16* queries,
                                                   float* sums, DecodeShared<Tile>& shared) {
  constexpr int kBarrier = 1;
  constexpr int kQuads = kDim / 4;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const bool is_lane_0 = threadIdx.x % kWarp == 0;
  const int num_tiles = walk.NumTiles();
  int begun = 0;  // tiles of segments before
  for (int n = 0; begun < num_tiles; ++n) {
    const int slot = n % Tile::kSegments;
    MbarrierWait(&shared.segment_full[slot], n / Tile::kSegments & 1);
    const DecodeSegment segment = shared.segments[slot];
    const int seq_len = shared.seq_lens[slot];
    DecodeRows<kDim, kFormat, kRows> of(p, queries + slot * Tile::kQueryElements, segment, seq_len);
    __syncwarp();
    if (is_lane_0) MbarrierArrive(&shared.segment_empty[slot]);
    const int first =
        p.FirstVisible(seq_len - segment.of.num_tokens) / kDecodePositions + segment.first;
    for (int i = (warp - begun % Tile::kWarps + Tile::kWarps) % Tile::kWarps; i < segment.count;
         i += Tile::kWarps) {
      const int stage = (begun + i) % Tile::kStages;
      MbarrierWait(&shared.full[stage], (begun + i) / Tile::kStages & 1);
      of.Add(p, stages + stage * Tile::kStageBytes, (first + i) * kDecodePositions);
      __syncwarp();
      if (is_lane_0) MbarrierArrive(&shared.empty[stage]);
    }
    begun += segment.count;

    const int rows = segment.of.num_tokens * p.group;
    NamedBarrierSync(kBarrier, Tile::kConsumers);  // the last merge has been read
    of.Leave(sums + warp * rows * Tile::kSumPitch, shared.stats[warp], rows);
    NamedBarrierSync(kBarrier, Tile::kConsumers);
    const bool is_whole = segment.IsWhole();
    for (int i = static_cast<int>(threadIdx.x); i < rows * kQuads; i += Tile::kConsumers) {
      const int row = i / kQuads;
      const int d = i % kQuads * 4;
      const RowQuad total = AddParts(
          is_whole ? p.Sink(segment.kv_head, row) : -INFINITY, Tile::kWarps,
          [&](int w) { return shared.stats[w][row]; },
          [&](int w) {
            return *reinterpret_cast<const float4*>(sums + (w * rows + row) * Tile::kSumPitch + d);
          });
      if (is_whole) {
        StoreQuad(p, p.OutRow(segment.of.first_token, segment.kv_head, row), d, total);
      } else {
        const int64_t at = DecodePartial(static_cast<int>(blockIdx.x), segment.first == 0, row);
        if (d == 0) p.partial_stats[at] = {total.max, total.sum};
        *reinterpret_cast<float4*>(p.partial_out + at * kDim + d) = total.values;
      }
    }
    if (is_whole) continue;
    const int first_block = segment.pair_begin / walk.share();
    const int parts = (segment.pair_end - 1) / walk.share() - first_block + 1;
    if (FinishesLast(p.chunk_counters + first_block, parts, kBarrier, Tile::kConsumers,
                     &shared.is_last)) {
      MergeParts<kDim>(
          p, segment.of.first_token, segment.kv_head, 0, rows, parts, Tile::kConsumers,
          [&](int part, int row) { return DecodePartial(first_block + part, part == 0, row); });
    }
  }
}

#endif

/// The map: [block][slab][row of keys or values][64] in boxes of all slabs of 16 rows; of bf16
/// only. Blocks: one for each SM. kRows: the most that a sequence has. Cost: keys and values of all
/// sequences read once.
template <int kDim, KvFormat kFormat, int kRows>
__global__ void __launch_bounds__(DecodeTile<kDim, kFormat>::kThreads, 1)
    AttentionDecodeKernel(const __grid_constant__ CUtensorMap map,
                          const __grid_constant__ AttentionParams p,
                          const __grid_constant__ DecodePlan plan) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = DecodeTile<kDim, kFormat>;
  extern __shared__ uint8_t shared_memory[];
  __shared__ DecodeShared<Tile> shared;
  uint8_t* stages = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  auto* queries = reinterpret_cast<bf16*>(stages + Tile::kStages * Tile::kStageBytes);
  auto* sums = reinterpret_cast<float*>(queries + Tile::kSegments * Tile::kQueryElements);
  LaunchDependents();
  if (threadIdx.x == 0) shared.Init();
  const DecodeWalk walk(plan, p.cache.kv_heads);
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kWarp - Tile::kWarps;
  if (warp < 0) {
    WaitForPrerequisites();
    ConsumeDecodeTiles<kDim, kFormat, kRows>(p, walk, stages, queries, sums, shared);
  } else if (warp < Tile::kCopyWarps) {
    CopyDecodeTiles(map, p, walk, warp, stages, shared);
  } else {
    WaitForPrerequisites();
    CopyDecodeQueries<kDim>(p, walk, queries, shared);
  }
#endif
}

/// A kernel and how it is launched.
struct DecodeKernel {
  void (*function)(CUtensorMap, AttentionParams, DecodePlan);
  unsigned threads;
  size_t shared_bytes;
};

/// `rows`: the most that a sequence has.
template <int kDim, KvFormat kFormat>
DecodeKernel DecodeKernelOf(int rows) {
  using Tile = DecodeTile<kDim, kFormat>;
  // bf16 rows fill a product's rows anyway; codes have columns, in eights.
  constexpr int kFew = Tile::kQuantized ? 8 : kDecodeRows;
  return {rows <= kFew ? AttentionDecodeKernel<kDim, kFormat, kFew>
                       : AttentionDecodeKernel<kDim, kFormat, kDecodeRows>,
          Tile::kThreads, Tile::SharedBytes(rows)};
}

/// The same for a quantized cache; in attention_decode_quantized.cu.
DecodeKernel QuantizedDecodeKernel(KvFormat format, int dim, int rows);

}  // namespace gale::cuda
