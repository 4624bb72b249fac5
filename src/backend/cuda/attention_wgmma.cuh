// Paged attention of many rows on Hopper. A block takes tiles of 128 rows by one kv head in turn:
// one warp brings keys by tensor copies, one values, two bring queries (or all four bring all,
// where keys and values become bf16 on the way), and two warp groups multiply. Each has 64 rows,
// and while one makes its softmax the other has the matrix units (as in FlashAttention-3,
// arXiv:2407.08608).
//
// Rows are packed as in attention_mma.cuh: row = token * group + head. Tiles of positions are taken
// in descending order, so that the masked ones come first.
#pragma once

#include "backend/cuda/attention_wgmma_copy.cuh"

namespace gale::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
/// has of one block; of a quantized cache unused.
/// Blocks: as many as the plan is for.
/// Cost: 4 * kDim FLOPs a row and position, in whole tiles; keys and values from L2, once a tile.
template <int kDim, bool kQuantized>
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
  if (threadIdx.x == 0) shared.template Init<kQuantized>();
  __syncthreads();
  WaitForPrerequisites();
  if (threadIdx.x >= Tile::kConsumers) {
    if constexpr (kQuantized) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
      uint8_t* raw = values + Tile::kStages * Tile::kTileBytes;
      Converter<kDim>(p, keys, values, raw, shared).Run(plan, queries);
    } else {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
      const WorkWalk walk(p, plan);
      const int warp = static_cast<int>(threadIdx.x - Tile::kConsumers) / kWarp;
      if (warp == 0) {
        CopyTiles<kDim>(map, p, walk, 0, keys, shared.k_full, shared.k_empty);
      } else if (warp == 1) {
        CopyTiles<kDim>(map, p, walk, p.cache.kv_heads << p.cache.block_shift, values,
                        shared.v_full, shared.v_empty);
      } else {
        CopyQueries<kDim>(p, walk, queries, shared);
      }
    }
  } else {
    if constexpr (kQuantized) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 208;");
    } else {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    }
    Multiplier<kDim>(p, shared, queries, keys, values)
        .Run(plan.first_work[blockIdx.x + 1] - plan.first_work[blockIdx.x]);
  }
#endif
}

}  // namespace gale::cuda
