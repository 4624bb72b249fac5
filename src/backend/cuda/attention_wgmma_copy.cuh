// What attention of many rows on Hopper (attention_wgmma.cuh) is made of before anything is
// multiplied: its tiles of rows and positions, who has which, and the warps that bring them to
// shared memory. Keys and values come by tensor copies, a warp each, and queries by two more; of a
// quantized cache codes come by copies, and all four warps make them bf16. Layer L1b, device side.
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
  static constexpr int kConvertWarps = 4;                 // of a quantized cache
  static constexpr int kRawSlots = kPositions / kKvTile;  // tiles of codes in shared memory
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

/// The i-th entry of the plan's work.
__device__ __forceinline__ AttentionWork LoadWork(const AttentionParams& p, const WgmmaPlan& plan,
                                                  int i) {
  const int number = plan.work[i];
  AttentionWork work;
  work.tile = plan.tiles[number / p.cache.kv_heads];
  work.kv_head = number % p.cache.kv_heads;
  work.first_position = p.seq_lens[work.tile.sequence] - work.tile.num_tokens;
  return work;
}

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
    if (at_ < end_) next_ = LoadWork(p_, plan_, at_);
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
  uint64_t raw_full[Tile::kRawSlots];

  template <bool kQuantized>
  __device__ void Init() {
    constexpr int kConsumerWarps = Tile::kConsumers / kWarp;
    constexpr int kTileArrivals = kQuantized ? Tile::kConvertWarps : 1;
    for (int i = 0; i < Tile::kQueryBuffers; ++i) {
      MbarrierInit(&q_full[i], kQuantized ? Tile::kConvertWarps : Tile::kQueryWarps);
      MbarrierInit(&q_empty[i], kConsumerWarps);
    }
    for (int i = 0; i < Tile::kStages; ++i) {
      MbarrierInit(&k_full[i], kTileArrivals);
      MbarrierInit(&k_empty[i], kConsumerWarps);
      MbarrierInit(&v_full[i], kTileArrivals);
      MbarrierInit(&v_empty[i], kConsumerWarps);
    }
    for (uint64_t& full : raw_full) MbarrierInit(&full, 1);
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

/// Copies the queries of a work, swizzled as tensor copies are, and says whose they are; the last
/// kWarps warps of the block.
template <int kDim, int kWarps>
__device__ __forceinline__ void CopyQueriesOf(const AttentionParams& p, const AttentionWork& work,
                                              const Ring<WgmmaAttention<kDim>::kQueryBuffers>& ring,
                                              uint8_t* queries, WgmmaShared<kDim>& shared) {
  using Tile = WgmmaAttention<kDim>;
  constexpr int kVectors = kDim / 8;  // 16 bytes each
  constexpr int kThreads = kWarps * kWarp;
  constexpr int kStep = kThreads / kVectors;  // rows
  const int thread = static_cast<int>(threadIdx.x) - (Tile::kThreads - kThreads);
  const int vector = thread % kVectors;
  const int first = thread / kVectors;
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
}

template <int kDim>
__device__ __forceinline__ void CopyQueries(const AttentionParams& p, WorkWalk walk,
                                            uint8_t* queries, WgmmaShared<kDim>& shared) {
  using Tile = WgmmaAttention<kDim>;
  Ring<Tile::kQueryBuffers> ring;
  AttentionWork work;
  while (walk.Next(&work)) {
    CopyQueriesOf<kDim, Tile::kQueryWarps>(p, work, ring, queries, shared);
    ring.Advance();
  }
}

/// Goes over the tiles of positions of a block's works, in the order in which they are taken.
template <int kDim>
struct PositionTiles {
  int number;  // of the work, in the plan
  AttentionWork work;
  TileSpan span{0, 0};
  int at = -1;
  bool is_first = false;  // of its work

  __device__ explicit PositionTiles(const WgmmaPlan& plan)
      : number(plan.first_work[blockIdx.x] - 1) {}

  /// False: there are no more. A work without positions has one tile, that is none.
  __device__ __forceinline__ bool Next(const AttentionParams& p, const WgmmaPlan& plan) {
    is_first = false;
    if (--at >= span.begin) return true;
    if (++number >= plan.first_work[blockIdx.x + 1]) return false;
    work = LoadWork(p, plan, number);
    span = work.Seen<kDim>(p);
    at = span.end - 1;
    is_first = true;
    return true;
  }
  __device__ __forceinline__ bool HasPositions() const { return at >= span.begin; }
};

/// Brings queries, keys and values of each work, where the cache is quantized; the last
/// kConvertWarps warps. A tile of positions is kRawSlots tiles of codes, and as many are on their
/// way to `raw` while the ones before them become bf16. Slots are a warp's own: warp i has every
/// kConvertWarps-th from the i-th on.
template <int kDim>
class Converter {
 public:
  using Tile = WgmmaAttention<kDim>;

  __device__ Converter(const AttentionParams& p, uint8_t* keys, uint8_t* values, uint8_t* raw,
                       WgmmaShared<kDim>& shared)
      : p_(p),
        shared_(shared),
        keys_(keys),
        values_(values),
        raw_(raw),
        row_bytes_(static_cast<int>(KvRowBytes(p.cache.format, kDim))) {}

  __device__ __forceinline__ void Run(const WgmmaPlan& plan, uint8_t* queries) {
    Ring<Tile::kQueryBuffers> q_ring;
    PositionTiles<kDim> ahead(plan);
    int blocks_ahead[kSlots];
    bool more = ahead.Next(p_, plan);
    if (more) {
      FindBlocks(ahead, blocks_ahead);
      FetchAll(ahead, blocks_ahead);
    }
    while (more) {
      const int number = ahead.number;
      const bool is_first = ahead.is_first;
      const bool has_positions = ahead.HasPositions();
      bool seen[kSlots];
      for (int j = 0; j < kSlots; ++j) seen[j] = blocks_ahead[j] >= 0;
      more = ahead.Next(p_, plan);
      const bool fetches = more && ahead.HasPositions();
      if (fetches) FindBlocks(ahead, blocks_ahead);
      if (is_first) {
        CopyQueriesOf<kDim, Tile::kConvertWarps>(p_, LoadWork(p_, plan, number), q_ring, queries,
                                                 shared_);
        q_ring.Advance();
      }
      if (!has_positions) {
        if (fetches) FetchAll(ahead, blocks_ahead);
        continue;
      }
      MbarrierWait(&shared_.k_empty[ring_.stage], ring_.parity ^ 1);
      MbarrierWait(&shared_.v_empty[ring_.stage], ring_.parity ^ 1);
#pragma unroll
      for (int j = 0; j < kSlots; ++j) {
        MbarrierWait(&shared_.raw_full[SlotOf(j)], raw_parity_);
        ConvertPart(SlotOf(j), seen[j], 0, keys_ + ring_.stage * Tile::kTileBytes);
        if (j + 1 == kSlots) Hand(&shared_.k_full[ring_.stage]);
        ConvertPart(SlotOf(j), seen[j], 1, values_ + ring_.stage * Tile::kTileBytes);
        __syncwarp();  // the slot has been read
        if (fetches) Fetch(ahead, SlotOf(j), blocks_ahead[j]);
      }
      Hand(&shared_.v_full[ring_.stage]);
      ring_.Advance();
      raw_parity_ ^= 1;
    }
  }

 private:
  static constexpr int kSlots = Tile::kRawSlots / Tile::kConvertWarps;  // of a warp
  static constexpr int kUnits = kDim / kKvUnit;                         // of a row
  static constexpr int kUnitsOfLane = kKvTile * kUnits / kWarp;         // of a slot's keys

  __device__ int SlotBytes() const { return KvTileBytes(2, row_bytes_); }

  /// The warp's j-th slot.
  __device__ int SlotOf(int j) const { return warp_ + j * Tile::kConvertWarps; }

  /// The blocks of the warp's tiles of codes; -1 where no row of the work sees anything, and a
  /// block table may have no entry.
  __device__ __forceinline__ void FindBlocks(const PositionTiles<kDim>& tiles,
                                             int (&blocks)[kSlots]) const {
    const AttentionWork& work = tiles.work;
    const int begin = p_.FirstVisible(work.Position(p_, 0));
    const int end = work.first_position + work.tile.num_tokens;
    const int32_t* table = p_.block_tables + work.tile.sequence * p_.table_stride;
#pragma unroll
    for (int j = 0; j < kSlots; ++j) {
      const int position = tiles.at * Tile::kPositions + SlotOf(j) * kKvTile;
      const bool seen = tiles.HasPositions() && position < end && position + kKvTile > begin;
      blocks[j] = seen ? table[position >> p_.cache.block_shift] : -1;
    }
  }

  /// Asks for a slot's tile of codes. What comes to nothing counts too.
  __device__ __forceinline__ void Fetch(const PositionTiles<kDim>& tiles, int slot,
                                        int block) const {
    if (lane_ != 0) return;
    uint64_t* full = &shared_.raw_full[slot];
    if (block < 0) {
      MbarrierArrive(full);
      return;
    }
    const int position = tiles.at * Tile::kPositions + slot * kKvTile;
    const int offset = position & ((1 << p_.cache.block_shift) - 1);
    MbarrierArriveExpect(full, SlotBytes());
    CopyBytes(raw_ + slot * SlotBytes(),
              KvTileAt(p_.cache, block, p_.layer, tiles.work.kv_head, offset), SlotBytes(), full);
  }

  __device__ __forceinline__ void FetchAll(const PositionTiles<kDim>& tiles,
                                           const int (&blocks)[kSlots]) const {
    if (!tiles.HasPositions()) return;
    for (int j = 0; j < kSlots; ++j) Fetch(tiles, SlotOf(j), blocks[j]);
  }

  /// Keys (part 0) or values of a slot to bf16 in `tile`, swizzled as tensor copies are; zeros
  /// where nothing is seen.
  __device__ __forceinline__ void ConvertPart(int slot, bool seen, int part, uint8_t* tile) const {
    if (!seen) {
      StoreUnits(slot, tile, [](int) { return KvElements{}; });
      return;
    }
    WithFormat(p_.cache.format,
               [&](auto format) { ConvertSlot<decltype(format)::value>(slot, part, tile); });
  }

  struct KvElements {
    uint4 vectors[2];
  };

  template <KvFormat kFormat>
  __device__ __forceinline__ void ConvertSlot(int slot, int part, uint8_t* tile) const {
    constexpr int kRowBytes = static_cast<int>(KvRowBytes(kFormat, kDim));
    uint8_t* codes = raw_ + slot * KvTileBytes(2, kRowBytes);
    auto* scales = reinterpret_cast<uint32_t*>(codes + 2 * kKvTile * kRowBytes);
    KvUnit<kFormat> units[kUnitsOfLane];
#pragma unroll
    for (int i = 0; i < kUnitsOfLane; ++i) {
      const int row = part * kKvTile + (i * kWarp + lane_) / kUnits;
      units[i].Load({codes, row * kRowBytes, scales + row}, lane_ % kUnits);
    }
    StoreUnits(slot, tile, [&](int i) {
      KvElements elements;
      units[i].Dequantize(elements.vectors);
      return elements;
    });
  }

  template <class Elements>
  __device__ __forceinline__ void StoreUnits(int slot, uint8_t* tile, Elements&& elements) const {
    const int vector = lane_ % kUnits * 2;
    uint8_t* slab = tile + vector / 8 * Tile::kTileSlab;
#pragma unroll
    for (int i = 0; i < kUnitsOfLane; ++i) {
      const KvElements of = elements(i);
      const int at = slot * kKvTile + (i * kWarp + lane_) / kUnits;
      uint8_t* out = slab + at * kSwizzledRow;
      *reinterpret_cast<uint4*>(out + ((vector ^ at) & 7) * 16) = of.vectors[0];
      *reinterpret_cast<uint4*>(out + (((vector + 1) ^ at) & 7) * 16) = of.vectors[1];
    }
  }

  /// The warp's part of a stage is there.
  __device__ __forceinline__ void Hand(uint64_t* full) const {
    FenceAsyncShared();
    __syncwarp();
    if (lane_ == 0) MbarrierArrive(full);
  }

  const AttentionParams& p_;
  WgmmaShared<kDim>& shared_;
  uint8_t* keys_;
  uint8_t* values_;
  uint8_t* raw_;
  int row_bytes_;
  const int lane_ = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_ = static_cast<int>(threadIdx.x - Tile::kConsumers) / kWarp;
  Ring<Tile::kStages> ring_;
  uint32_t raw_parity_ = 0;
};

#endif

}  // namespace gale::cuda
