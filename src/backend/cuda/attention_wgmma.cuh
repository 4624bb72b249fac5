// Paged attention of many rows on Hopper. A block takes tiles of 128 rows by one kv head in turn:
// one warp brings keys by tensor copies, one values, two bring queries, and two warp groups
// multiply. Each has 64 rows, and while one makes its softmax the other has the matrix units (as in
// FlashAttention-3, arXiv:2407.08608).
//
// Rows are packed as in attention_mma.cuh: row = token * group + head. Tiles of positions are taken
// in descending order, so that the masked ones come first.
#pragma once

#include "backend/cuda/attention_hopper.cuh"

namespace gale::cuda {

/// Up to 128 rows of one sequence, or what one of num_parts equal parts of the positions that they
/// see adds to them.
struct RowTile {
  int32_t sequence;
  int32_t first_token;  // of the sequence, in the step
  int32_t num_tokens;   // of the sequence, in this step
  int32_t first_row;
  int32_t part;
  int32_t num_parts;
  int32_t first_partial;  // tile of partial rows of part i, kv head h: this + i * kv_heads + h
  int32_t counter;        // which kv_heads of chunk_counters count the parts that are done
};

/// Block b has work[first_work[b]] to work[first_work[b + 1]], a tile for one kv head each:
/// tile * kv_heads + kv head.
struct WgmmaPlan {
  const int32_t* first_work;
  const int32_t* work;
  const RowTile* tiles;
};

template <int kDim>
struct WgmmaAttention {
  static constexpr int kGroups = 2;
  static constexpr int kGroupRows = 64;
  static constexpr int kRows = kGroups * kGroupRows;
  static constexpr int kPositions = kDim > 128 ? 64 : 128;  // of a tile
  static constexpr int kSlabs = kDim / 64;
  static constexpr int kStages = 2;
  static constexpr int kQueryBuffers = kDim > 128 ? 1 : 2;
  static constexpr int kQuerySlab = kRows * kSwizzledRow;
  static constexpr int kQueryBytes = kSlabs * kQuerySlab;
  static constexpr int kTileSlab = kPositions * kSwizzledRow;
  static constexpr int kTileBytes = kSlabs * kTileSlab;
  static constexpr int kAlignment = 1024;
  static constexpr int kSharedBytes =
      kQueryBuffers * kQueryBytes + 2 * kStages * kTileBytes + kAlignment;
  static constexpr int kConsumers = kGroups * 128;
  static constexpr int kThreads = kConsumers + 128;
  static constexpr int kQueryWarps = 2;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

struct TileSpan {
  int begin;
  int end;
};

/// A tile of rows for one kv head, and where its sequence stands.
struct AttentionWork {
  RowTile tile;
  int kv_head;
  int first_position;  // of the step

  __device__ int Rows(const AttentionParams& p, int limit) const {
    return min(limit, tile.num_tokens * p.group - tile.first_row);
  }
  __device__ int Position(const AttentionParams& p, int row) const {
    return first_position + (tile.first_row + row) / p.group;
  }
  /// Tiles of positions that some row sees, of this part.
  template <int kDim>
  __device__ __forceinline__ TileSpan Seen(const AttentionParams& p) const {
    using Tile = WgmmaAttention<kDim>;
    const int first = p.FirstVisible(Position(p, 0)) / Tile::kPositions;
    const int last = Position(p, Rows(p, Tile::kRows) - 1);
    const int count = last < 0 ? 0 : last / Tile::kPositions + 1 - first;
    if (tile.num_parts == 1) return {first, first + count};
    return {first + count * tile.part / tile.num_parts,
            first + count * (tile.part + 1) / tile.num_parts};
  }
};

/// Goes over a block's work; the next one is always on its way.
class WorkWalk {
 public:
  __device__ WorkWalk(const AttentionParams& p, const WgmmaPlan& plan)
      : p_(p),
        plan_(plan),
        at_(plan.first_work[blockIdx.x]),
        end_(plan.first_work[blockIdx.x + 1]) {
    Fetch();
  }
  __device__ bool Next(AttentionWork* work) {
    if (at_ > end_) return false;
    *work = next_;
    Fetch();
    return true;
  }

 private:
  __device__ void Fetch() {
    if (at_ < end_) {
      const int work = plan_.work[at_];
      next_.tile = plan_.tiles[work / p_.cache.kv_heads];
      next_.kv_head = work % p_.cache.kv_heads;
      next_.first_position = p_.seq_lens[next_.tile.sequence] - next_.tile.num_tokens;
    }
    ++at_;
  }

  const AttentionParams& p_;
  const WgmmaPlan& plan_;
  int at_;  // after the next one
  int end_;
  AttentionWork next_;
};

/// What the block's warps share beside the tiles.
template <int kDim>
struct WgmmaShared {
  using Tile = WgmmaAttention<kDim>;
  AttentionWork work[Tile::kQueryBuffers];  // whose queries these are
  int is_last;
  uint64_t q_full[Tile::kQueryBuffers];
  uint64_t q_empty[Tile::kQueryBuffers];
  uint64_t k_full[Tile::kStages];
  uint64_t k_empty[Tile::kStages];
  uint64_t v_full[Tile::kStages];
  uint64_t v_empty[Tile::kStages];

  __device__ void Init() {
    constexpr int kConsumerWarps = Tile::kConsumers / kWarp;
    for (int i = 0; i < Tile::kQueryBuffers; ++i) {
      MbarrierInit(&q_full[i], Tile::kQueryWarps);
      MbarrierInit(&q_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&k_full[i], 1);
      MbarrierInit(&k_empty[i], kConsumerWarps);
      MbarrierInit(&v_full[i], 1);
      MbarrierInit(&v_empty[i], kConsumerWarps);
    }
    FenceBarrierInit();
  }
};

/// Copies keys, or values, which are value_rows rows further on in the map, of each work; a warp,
/// whose lanes have a piece of a tile each, no longer than a block of the cache.
template <int kDim>
__device__ __forceinline__ void CopyTiles(const CUtensorMap& map, const AttentionParams& p,
                                          WorkWalk walk, int value_rows, uint8_t* tiles,
                                          uint64_t* full, uint64_t* empty) {
  using Tile = WgmmaAttention<kDim>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int piece = min(1 << p.cache.block_shift, Tile::kPositions);
  const int begin = lane * piece;  // in a tile
  AttentionWork work;
  TileSpan span{0, 0};
  int at = -1;  // the tile of positions that comes next, and where the lane's piece of it lies
  int block;
  int row;
  const auto fetch = [&] {
    for (--at; at < span.begin; at = span.end - 1) {
      if (!walk.Next(&work)) return false;
      span = work.Seen<kDim>(p);
    }
    const int position = at * Tile::kPositions + begin;
    // Blocks that hold nothing visible have no entry; they are copied as zeros.
    const bool valid = begin < Tile::kPositions &&
                       position < work.first_position + work.tile.num_tokens &&
                       position + piece > p.FirstVisible(work.Position(p, 0));
    const int32_t* table = p.block_tables + work.tile.sequence * p.table_stride;
    block = valid ? table[position >> p.cache.block_shift] : -1;
    row = p.MapRow(work.kv_head, position) + value_rows;
    return true;
  };
  Ring<Tile::kStages> ring;
  for (bool more = fetch(); more;) {
    const int now_block = block;
    const int now_row = row;
    more = fetch();
    MbarrierWait(&empty[ring.stage], ring.parity ^ 1);
    if (lane == 0) MbarrierArriveExpect(&full[ring.stage], Tile::kTileBytes);
    __syncwarp();
    if (begin < Tile::kPositions) {
      uint8_t* dst = tiles + ring.stage * Tile::kTileBytes + begin * kSwizzledRow;
#pragma unroll
      for (int slab = 0; slab < Tile::kSlabs; ++slab) {
        CopyBox(dst + slab * Tile::kTileSlab, map, {0, now_row, slab, now_block},
                &full[ring.stage]);
      }
    }
    ring.Advance();
  }
}

/// Copies the queries of each work, swizzled as tensor copies are, and says whose they are; the
/// last warps of the block.
template <int kDim>
__device__ __forceinline__ void CopyQueries(const AttentionParams& p, WorkWalk walk,
                                            uint8_t* queries, WgmmaShared<kDim>& shared) {
  using Tile = WgmmaAttention<kDim>;
  constexpr int kVectors = kDim / 8;  // 16 bytes each
  constexpr int kThreads = Tile::kQueryWarps * kWarp;
  constexpr int kStep = kThreads / kVectors;  // rows
  const int thread = static_cast<int>(threadIdx.x) - (Tile::kThreads - kThreads);
  const int vector = thread % kVectors;
  const int first = thread / kVectors;
  Ring<Tile::kQueryBuffers> ring;
  AttentionWork work;
  while (walk.Next(&work)) {
    const int rows = work.Rows(p, Tile::kRows);
    uint8_t* slab = queries + ring.stage * Tile::kQueryBytes + vector / 8 * Tile::kQuerySlab;
    MbarrierWait(&shared.q_empty[ring.stage], ring.parity ^ 1);
    int head = (work.tile.first_row + first) % p.group;
    int token = work.tile.first_token + (work.tile.first_row + first) / p.group;
    for (int r = first; r < Tile::kRows; r += kStep) {
      const bf16* src = static_cast<const bf16*>(p.q) + token * p.q_stride +
                        (work.kv_head * p.group + head) * p.q_head_stride;
      p.CopyQueries(slab + r * kSwizzledRow + ((vector ^ r) & 7) * 16, src, vector * 8, r < rows);
      for (head += kStep; head >= p.group; head -= p.group) ++token;
    }
    if (thread == 0) shared.work[ring.stage] = work;
    CommitCopies();
    WaitForCopies<0>();
    FenceAsyncShared();
    __syncwarp();
    if (thread % kWarp == 0) MbarrierArrive(&shared.q_full[ring.stage]);
    ring.Advance();
  }
}

/// What a thread of a warp group knows of its two rows, eight apart.
struct RowsState {
  int position[2];                        // last one seen; -1: none
  int visible[2];                         // first one seen
  int all_see_from;                       // positions that all rows of the group see: from here
  int all_see_to;                         // to here
  float max[2] = {-INFINITY, -INFINITY};  // of scores, or products
  float sum[2] = {0, 0};                  // of this thread's positions
};

/// Products to scores, in place: capped, and minus infinity where a row does not see. The tile
/// begins at position `begin`.
template <int kSize>
__device__ __forceinline__ void CapAndMask(const AttentionParams& p, const RowsState& rows,
                                           int begin, float (&s)[kSize]) {
  constexpr int kPositions = kSize * 2;
  if (p.softcap > 0) {
#pragma unroll
    for (float& score : s) score = CappedScore(p, score);
  }
  if (begin >= rows.all_see_from && begin + kPositions - 1 <= rows.all_see_to) return;
  const int first = begin + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const int at = first + i / 4 * 8 + i % 2;
    const int h = i / 2 % 2;
    if (at > rows.position[h] || at < rows.visible[h]) s[i] = -INFINITY;
  }
}

/// Scores to weights, in place; what was summed up before is to be multiplied by `keep`.
template <int kSize>
__device__ __forceinline__ void Softmax(float scale, RowsState* rows, float (&s)[kSize],
                                        float (&keep)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float max = rows->max[h];
#pragma unroll
    for (int i = 2 * h; i < kSize; i += 4) max = fmaxf(max, fmaxf(s[i], s[i + 1]));
    max = fmaxf(max, __shfl_xor_sync(~0U, max, 1));
    max = fmaxf(max, __shfl_xor_sync(~0U, max, 2));
    const float base = max == -INFINITY ? 0.0F : max * scale;
    keep[h] = Exp2(fmaf(rows->max[h], scale, -base));
    rows->max[h] = max;
    float sum = 0;
#pragma unroll
    for (int i = 2 * h; i < kSize; i += 4) {
      s[i] = Exp2(fmaf(s[i], scale, -base));
      s[i + 1] = Exp2(fmaf(s[i + 1], scale, -base));
      sum += s[i] + s[i + 1];
    }
    rows->sum[h] = fmaf(rows->sum[h], keep[h], sum);
  }
}

/// One of the two warp groups that multiply.
template <int kDim>
class Multiplier {
 public:
  using Tile = WgmmaAttention<kDim>;
  static constexpr int kPositions = Tile::kPositions;

  __device__ Multiplier(const AttentionParams& p, WgmmaShared<kDim>& shared, uint8_t* queries,
                        const uint8_t* keys, uint8_t* values)
      : p_(p), shared_(shared), queries_(queries), keys_(keys), values_(values) {
    if (group_ == 1) PassTurn();
  }

  __device__ __forceinline__ void Run(int count) {
    for (; count > 0; --count) {
      MbarrierWait(&shared_.q_full[q_ring_.stage], q_ring_.parity);
      const AttentionWork work = shared_.work[q_ring_.stage];
      float o[kDim / 2];
      RowsState rows = Attend(work, o);
      rows.sum[0] += __shfl_xor_sync(~0U, rows.sum[0], 1);
      rows.sum[0] += __shfl_xor_sync(~0U, rows.sum[0], 2);
      rows.sum[1] += __shfl_xor_sync(~0U, rows.sum[1], 1);
      rows.sum[1] += __shfl_xor_sync(~0U, rows.sum[1], 2);
      if (work.tile.num_parts == 1) {
        Store(work, rows, o);
      } else {
        StorePart(work, rows, o);
      }
      __syncwarp();
      Release(&shared_.q_empty[q_ring_.stage]);
      q_ring_.Advance();
    }
  }

 private:
  // Named barriers.
  static constexpr int kTurn = 1;   // and 2: it is this group's turn to start products
  static constexpr int kGroup = 3;  // and 4: of the group's threads
  static constexpr int kAll = 5;    // of both groups

  __device__ void AwaitTurn() const { NamedBarrierSync(kTurn + group_, Tile::kConsumers); }
  __device__ void PassTurn() const { NamedBarrierArrive(kTurn + 1 - group_, Tile::kConsumers); }
  __device__ void SyncGroup() const { NamedBarrierSync(kGroup + group_, 128); }
  /// After a wait for products, which the whole warp takes part in.
  __device__ void Release(uint64_t* barrier) const {
    if (lane_ == 0) MbarrierArrive(barrier);
  }

  /// s = queries * keys^T, begun.
  __device__ __forceinline__ void MultiplyKeys(float (&s)[kPositions / 2]) const {
    const uint64_t q = SwizzledMatrix(
        queries_ + q_ring_.stage * Tile::kQueryBytes + group_ * (Tile::kGroupRows * kSwizzledRow),
        0);
    const uint64_t k = SwizzledMatrix(keys_ + k_ring_.stage * Tile::kTileBytes, 0);
    WgmmaFence();
#pragma unroll
    for (int d = 0; d < kDim; d += 16) {
      const int column = d % 64 * 2;  // bytes
      Wgmma<kPositions>(s, FurtherOn(q, d / 64 * Tile::kQuerySlab + column),
                        FurtherOn(k, d / 64 * Tile::kTileSlab + column), d > 0 ? 1 : 0);
    }
    WgmmaCommit();
  }

  /// o = weights * values, added to what was there if `accumulate`, begun.
  __device__ __forceinline__ void MultiplyValues(const uint32_t (&w)[kPositions / 4],
                                                 bool accumulate, float (&o)[kDim / 2]) const {
    const uint64_t v = SwizzledTranspose(values_ + v_ring_.stage * Tile::kTileBytes, 0, kPositions);
    WgmmaFence();
#pragma unroll
    for (int at = 0; at < kPositions; at += 16) {
      WgmmaRegisters<kDim>(o, &w[at / 4], FurtherOn(v, at * kSwizzledRow),
                           at > 0 || accumulate ? 1 : 0);
    }
    WgmmaCommit();
  }

  __device__ __forceinline__ void EndKeys() {
    Release(&shared_.k_empty[k_ring_.stage]);
    k_ring_.Advance();
  }
  __device__ __forceinline__ void AwaitValues() const {
    MbarrierWait(&shared_.v_full[v_ring_.stage], v_ring_.parity);
  }
  __device__ __forceinline__ void EndValues(float (&o)[kDim / 2]) {
    WgmmaWait<0>();
    FenceRegisters(o);
    Release(&shared_.v_empty[v_ring_.stage]);
    v_ring_.Advance();
  }

  /// What was never written may be anything, even NaN, and zero times NaN is not zero. Both groups
  /// write the same zeros.
  __device__ __forceinline__ void ClearValues(int written) const {
    if (written >= kPositions) return;
    AwaitValues();
    uint8_t* v = values_ + v_ring_.stage * Tile::kTileBytes;
    constexpr int kVectors = kSwizzledRow / 16;
    for (int i = written * kVectors + thread_; i < kPositions * kVectors; i += 128) {
#pragma unroll
      for (int slab = 0; slab < Tile::kSlabs; ++slab) {
        *reinterpret_cast<uint4*>(v + slab * Tile::kTileSlab + i * 16) = {0, 0, 0, 0};
      }
    }
    FenceAsyncShared();
    SyncGroup();
  }

  __device__ __forceinline__ RowsState StateOf(const AttentionWork& work) const {
    RowsState state;
    const int rows = work.Rows(p_, Tile::kRows);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row_ + h * 8;
      state.position[h] = row < rows ? work.Position(p_, row) : -1;
      state.visible[h] = p_.FirstVisible(state.position[h]);
    }
    const int first = group_ * Tile::kGroupRows;
    const int last = first + Tile::kGroupRows - 1;
    state.all_see_to = last < rows ? work.Position(p_, first) : -1;
    state.all_see_from = p_.FirstVisible(work.Position(p_, last));
    return state;
  }

  /// o = sums of values over the positions of the work, not divided by the sum of weights.
  __device__ __forceinline__ RowsState Attend(const AttentionWork& work, float (&o)[kDim / 2]) {
    RowsState rows = StateOf(work);
    const float scale = ExponentScale(p_);
    const TileSpan span = work.Seen<kDim>(p_);
    if (span.begin >= span.end) {
#pragma unroll
      for (float& x : o) x = 0;
      return rows;
    }
    float s[kPositions / 2];
    uint32_t w[kPositions / 4];
    float keep[2];
    // A product's layout of sums is that of the next one's left operand.
    const auto pack = [&] {
#pragma unroll
      for (int i = 0; i < kPositions / 4; ++i) w[i] = PackBf16(s[2 * i], s[2 * i + 1]);
    };
    const auto await_keys = [&] {
      MbarrierWait(&shared_.k_full[k_ring_.stage], k_ring_.parity);
      AwaitTurn();
    };
    int tile = span.end - 1;
    await_keys();
    MultiplyKeys(s);
    PassTurn();
    WgmmaWait<0>();
    FenceRegisters(s);
    EndKeys();
    CapAndMask(p_, rows, tile * kPositions, s);
    Softmax(scale, &rows, s, keep);
    pack();
    ClearValues(work.first_position + work.tile.num_tokens - tile * kPositions);
    bool accumulate = false;
    for (--tile; tile >= span.begin; --tile) {
      await_keys();
      MultiplyKeys(s);
      AwaitValues();
      MultiplyValues(w, accumulate, o);
      accumulate = true;
      PassTurn();
      WgmmaWait<1>();
      FenceRegisters(s);
      EndKeys();
      CapAndMask(p_, rows, tile * kPositions, s);
      Softmax(scale, &rows, s, keep);
      EndValues(o);
#pragma unroll
      for (int i = 0; i < kDim / 2; ++i) o[i] *= keep[i / 2 % 2];
      pack();
    }
    AwaitValues();
    MultiplyValues(w, accumulate, o);
    EndValues(o);
    return rows;
  }

  /// Rows go through the place of their queries, so that whole lines are written at once.
  __device__ __forceinline__ void Store(const AttentionWork& work, const RowsState& rows,
                                        const float (&o)[kDim / 2]) const {
    SyncGroup();  // the group's products have read the queries
    uint8_t* staged =
        queries_ + q_ring_.stage * Tile::kQueryBytes + (first_row_ - lane_ / 4) * kSwizzledRow;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      SoftmaxStats total;
      total.Begin(p_.sinks,
                  work.kv_head * p_.group + (work.tile.first_row + first_row_ + h * 8) % p_.group);
      total.Merge(rows.max[h] * ExponentScale(p_), rows.sum[h]);
      const float factor = total.take / total.sum;
      uint8_t* row = staged + (lane_ / 4 + h * 8) * kSwizzledRow + lane_ % 4 * 4;
#pragma unroll
      for (int f = 0; f < kDim / 8; ++f) {
        *reinterpret_cast<uint32_t*>(row + f / 8 * Tile::kQuerySlab + ((f ^ lane_ / 4) & 7) * 16) =
            PackBf16(o[f * 4 + 2 * h] * factor, o[f * 4 + 2 * h + 1] * factor);
      }
    }
    __syncwarp();
    const int num_rows = work.Rows(p_, Tile::kRows);
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      const int r = lane_ / 8 + i;  // of the warp's 16
      const int row = first_row_ - lane_ / 4 + r;
      if (row >= num_rows) continue;
      bf16* dst = p_.OutRow(work.tile.first_token, work.kv_head, work.tile.first_row + row);
#pragma unroll
      for (int slab = 0; slab < Tile::kSlabs; ++slab) {
        const uint8_t* src =
            staged + slab * Tile::kQuerySlab + r * kSwizzledRow + ((lane_ ^ r) & 7) * 16;
        p_.StoreVector(dst, slab * 64 + lane_ % 8 * 8, *reinterpret_cast<const uint4*>(src));
      }
    }
  }

  /// One part of several; the last block that has one merges them.
  __device__ __forceinline__ void StorePart(const AttentionWork& work, const RowsState& rows,
                                            const float (&o)[kDim / 2]) const {
    const auto partial = [&](int part, int row) {
      const int tile = work.tile.first_partial + part * p_.cache.kv_heads + work.kv_head;
      return int64_t{tile} * Tile::kRows + row;
    };
    const int num_rows = work.Rows(p_, Tile::kRows);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row_ + h * 8;
      if (row >= num_rows) continue;
      const int64_t at = partial(work.tile.part, row);
      if (lane_ % 4 == 0) {
        p_.partial_stats[at] = {rows.max[h] * ExponentScale(p_), rows.sum[h]};
      }
      float* dst = p_.partial_out + at * kDim + lane_ % 4 * 2;
#pragma unroll
      for (int f = 0; f < kDim / 8; ++f) {
        *reinterpret_cast<float2*>(dst + f * 8) = {o[f * 4 + 2 * h], o[f * 4 + 2 * h + 1]};
      }
    }
    int32_t* counter = p_.chunk_counters + work.tile.counter * p_.cache.kv_heads + work.kv_head;
    if (FinishesLast(counter, work.tile.num_parts, kAll, Tile::kConsumers, &shared_.is_last)) {
      MergeParts<kDim>(p_, work.tile.first_token, work.kv_head, work.tile.first_row, num_rows,
                       work.tile.num_parts, Tile::kConsumers, partial);
    }
  }

  const AttentionParams& p_;
  WgmmaShared<kDim>& shared_;
  uint8_t* queries_;
  const uint8_t* keys_;
  uint8_t* values_;
  const int lane_ = static_cast<int>(threadIdx.x) % kWarp;
  const int thread_ = static_cast<int>(threadIdx.x) % 128;  // of the group
  const int group_ = static_cast<int>(threadIdx.x) / 128;
  /// This thread's rows of the tile: this one and eight on.
  const int first_row_ = static_cast<int>(threadIdx.x) / kWarp * 16 + lane_ / 4;
  Ring<Tile::kQueryBuffers> q_ring_;
  Ring<Tile::kStages> k_ring_;
  Ring<Tile::kStages> v_ring_;
};

#endif

/// The map: [block][slab][row of keys or values][64], in boxes of a slab of as many rows as a tile
/// has of one block.
/// Blocks: as many as the plan is for.
/// Cost: 4 * kDim FLOPs a row and position, in whole tiles; keys and values from L2, once a tile.
template <int kDim>
__global__ void __launch_bounds__(WgmmaAttention<kDim>::kThreads, 1)
    AttentionWgmmaKernel(const __grid_constant__ CUtensorMap map,
                         const __grid_constant__ AttentionParams p,
                         const __grid_constant__ WgmmaPlan plan) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Tile = WgmmaAttention<kDim>;
  extern __shared__ uint8_t shared_memory[];
  __shared__ WgmmaShared<kDim> shared;
  uint8_t* queries = shared_memory + (-SharedAddress(shared_memory) & (Tile::kAlignment - 1));
  uint8_t* keys = queries + Tile::kQueryBuffers * Tile::kQueryBytes;
  uint8_t* values = keys + Tile::kStages * Tile::kTileBytes;
  LaunchDependents();
  if (threadIdx.x == 0) shared.Init();
  __syncthreads();
  WaitForPrerequisites();
  if (threadIdx.x >= Tile::kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    const WorkWalk walk(p, plan);
    const int warp = static_cast<int>(threadIdx.x - Tile::kConsumers) / kWarp;
    if (warp == 0) {
      CopyTiles<kDim>(map, p, walk, 0, keys, shared.k_full, shared.k_empty);
    } else if (warp == 1) {
      CopyTiles<kDim>(map, p, walk, p.cache.kv_heads << p.cache.block_shift, values, shared.v_full,
                      shared.v_empty);
    } else {
      CopyQueries<kDim>(p, walk, queries, shared);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    Multiplier<kDim>(p, shared, queries, keys, values)
        .Run(plan.first_work[blockIdx.x + 1] - plan.first_work[blockIdx.x]);
  }
#endif
}

}  // namespace gale::cuda
