// Attention on Hopper in fast numerics: the plan of a step, which sends sequences of few rows to
// one kernel and all others to another, and the launches.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "backend/cuda/attention_decode.cuh"
#include "backend/cuda/attention_paged.h"
#include "backend/cuda/attention_wgmma.cuh"
#include "backend/cuda/tensor_map.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kTileRows = WgmmaAttention<64>::kRows;
constexpr int kMinDecodeShare = 16;                    // tiles; two or more for each warp
constexpr size_t kMaxPartialBytes = size_t{32} << 20;  // else tiles of rows are not cut into parts

/// Rounds up to what a region of the plan begins at.
size_t Aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

/// Where things lie in a plan. It follows from the numbers of tokens and sequences, as captured
/// launches need.
struct PlanLayout {
  size_t decode_counters;   ///< i32 [blocks], 0 between layers
  size_t decode_sequences;  ///< DecodeSequence [sequences + 1]
  size_t part_counters;     ///< i32 [tiles * kv_heads], 0 between layers
  size_t first_work;        ///< i32 [blocks + 1]
  size_t tiles;             ///< RowTile [tiles + parts]
  size_t work;              ///< i32 [(tiles + parts) * kv_heads]
  size_t bytes;

  PlanLayout(int64_t num_sequences, int64_t num_tiles, int64_t num_parts, int kv_heads) {
    const auto sequences = static_cast<size_t>(num_sequences);
    const auto items = static_cast<size_t>(num_tiles);
    const auto heads = static_cast<size_t>(kv_heads);
    const auto blocks = static_cast<size_t>(Limits().num_sms);
    const size_t parts = items + static_cast<size_t>(num_parts);
    decode_counters = Aligned(sizeof(DecodeHeader));
    decode_sequences = decode_counters + Aligned(blocks * sizeof(int32_t));
    part_counters = decode_sequences + (sequences + 1) * sizeof(DecodeSequence);
    first_work = part_counters + Aligned(items * heads * sizeof(int32_t));
    tiles = first_work + Aligned((blocks + 1) * sizeof(int32_t));
    work = tiles + parts * sizeof(RowTile);
    bytes = work + Aligned(parts * heads * sizeof(int32_t));
  }
};

class HopperAttention final : public PagedAttention {
 public:
  HopperAttention(const AttentionSpec& spec, int padded_dim) : PagedAttention(spec, padded_dim) {}

  void BindCache(const KvCacheView& cache) override {
    PagedAttention::BindCache(cache);
    if (IsQuantized(spec_.kv)) return;
    const int slabs = layout_.padded_dim / 64;
    const auto row_bytes = static_cast<cuuint64_t>(layout_.padded_dim) * sizeof(bf16);
    const std::array<cuuint64_t, 4> dims = {
        64,
        static_cast<cuuint64_t>(spec_.layers) * static_cast<cuuint64_t>(layout_.rows_per_token) *
            static_cast<cuuint64_t>(cache.block_tokens),
        static_cast<cuuint64_t>(slabs), static_cast<cuuint64_t>(cache.blocks.dim(0))};
    const std::array<cuuint64_t, 3> strides = {row_bytes, kSwizzledRow,
                                               static_cast<cuuint64_t>(layout_.block_bytes)};
    const auto encode = [&](int rows, int box_slabs, CUtensorMapL2promotion promotion) {
      const std::array<cuuint32_t, 4> box = {64, static_cast<cuuint32_t>(rows),
                                             static_cast<cuuint32_t>(box_slabs), 1};
      CUtensorMap map;
      GALE_CHECK(EncodeTensorMap(layout_.blocks, dims, strides, box, &map, promotion));
      return map;
    };
    // Decode reads whole lines once: for L2 to read more than is asked for only costs time.
    decode_map_ = encode(kDecodePositions, slabs, CU_TENSOR_MAP_L2_PROMOTION_NONE);
    tile_map_ = encode(std::min(cache.block_tokens, TilePositions()), 1,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
  }

  size_t PlanBytes(int max_tokens, int max_seqs) const override {
    const int64_t tiles = std::max(MaxTiles(max_tokens, max_seqs, kTileRows),
                                   MaxTiles(max_tokens, std::min(max_tokens, max_seqs), kTileRows));
    return PlanLayout(max_seqs, tiles, MaxParts(), spec_.kv_heads).bytes;
  }

  void Plan(const AttentionBatch& batch) override {
    Begin(batch);
    decode_.clear();
    tiles_.clear();
    decode_tiles_ = 0;
    decode_rows_ = 0;
    for (size_t s = 0; s < NumSequences(); ++s) {
      if (NumRows(s) == 0 || batch.seq_lens_upper[s] == 0) continue;
      if (IsDecode(s)) {
        AddDecode(s);
      } else {
        AddTiles(s);
      }
    }
    decode_.push_back({0, 0, 0, decode_tiles_});
    CutIntoParts();
    ShareOut();
    WritePlan();
  }

  void Run(Stream& stream, const AttentionArgs& args) override {
    if (!HasWork(args)) return;
    switch (layout_.padded_dim) {
      case 64: RunDim<64>(AsCuda(stream), args); break;
      case 128: RunDim<128>(AsCuda(stream), args); break;
      default: RunDim<256>(AsCuda(stream), args); break;
    }
  }

 private:
  /// A tile of rows and how many tiles of positions it has to see, with what a tile costs by
  /// itself.
  struct CostedTile {
    RowTile tile;
    int cost;
  };

  int TilePositions() const { return layout_.padded_dim > 128 ? 64 : 128; }
  /// Parts beyond one a tile, at most.
  static int64_t MaxParts() { return 2 * int64_t{Limits().num_sms}; }
  bool HasFixedDecode() const {
    return batch_.fixed_launches && NumTokens() == static_cast<int>(NumSequences());
  }
  /// Whether the sequence is one of few rows, or, in a captured graph, all are taken for such.
  bool IsDecode(size_t s) const {
    return batch_.fixed_launches ? HasFixedDecode() : NumRows(s) <= kDecodeRows;
  }
  PlanLayout Layout() const {
    const auto sequences = static_cast<int64_t>(NumSequences());
    return {sequences, MaxTiles(NumTokens(), sequences, kTileRows), MaxParts(), spec_.kv_heads};
  }

  void AddDecode(size_t s) {
    int tiles = (batch_.seq_lens_upper[s] + kDecodePositions - 1) / kDecodePositions;
    if (spec_.kind == KvKind::kSlidingWindow) {
      tiles = std::min(tiles, (spec_.window + NumTokens(s)) / kDecodePositions + 2);
    }
    decode_.push_back(
        {static_cast<int32_t>(s), batch_.cu_seqlens_q[s], NumTokens(s), decode_tiles_});
    decode_tiles_ += tiles;
    decode_rows_ = std::max(decode_rows_, NumRows(s));
  }

  void AddTiles(size_t s) {
    constexpr int kOwnCost = 2;
    const int first_position = batch_.seq_lens_upper[s] - NumTokens(s);
    for (int row = 0; row < NumRows(s); row += kTileRows) {
      const int last = first_position + (std::min(row + kTileRows, NumRows(s)) - 1) / group_;
      int first = 0;
      if (spec_.kind == KvKind::kSlidingWindow) {
        first = std::max(0, first_position + row / group_ - spec_.window + 1);
      }
      tiles_.push_back({{.sequence = static_cast<int32_t>(s),
                         .first_token = batch_.cu_seqlens_q[s],
                         .num_tokens = NumTokens(s),
                         .first_row = row,
                         .part = 0,
                         .num_parts = 1,
                         .first_partial = 0,
                         .counter = 0},
                        last / TilePositions() - first / TilePositions() + 1 + kOwnCost});
    }
  }

  /// Cuts tiles of rows that take longer than a block's even share of all work.
  void CutIntoParts() {
    constexpr int kMinCost = 6;
    int64_t total = 0;
    for (const CostedTile& tile : tiles_) total += int64_t{tile.cost} * spec_.kv_heads;
    const auto share =
        std::max<int64_t>(kMinCost, (total + Limits().num_sms - 1) / Limits().num_sms);
    num_partials_ = 0;
    int32_t counter = 0;
    std::vector<CostedTile> whole;
    whole.swap(tiles_);
    for (CostedTile& tile : whole) {
      const auto parts = static_cast<int>((tile.cost + share - 1) / share);
      if (parts > 1 && (num_partials_ + parts) * spec_.kv_heads <= MaxPartialTiles() &&
          num_partials_ + parts <= MaxParts()) {
        tile.tile.num_parts = parts;
        tile.tile.first_partial = static_cast<int32_t>(num_partials_ * spec_.kv_heads);
        tile.tile.counter = counter++;
        tile.cost = (tile.cost + parts - 1) / parts + 1;
        num_partials_ += parts;
      }
      for (tile.tile.part = 0; tile.tile.part < tile.tile.num_parts; ++tile.tile.part) {
        tiles_.push_back(tile);
      }
    }
  }

  /// Longest first, each to the block that has least. Blocks take theirs by kv head, so that what
  /// one reads others find in L2.
  void ShareOut() {
    const int blocks = Limits().num_sms;
    work_.assign(static_cast<size_t>(blocks), {});
    std::vector<int32_t> order(tiles_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    const auto tile = [&](int32_t i) -> const CostedTile& {
      return tiles_[static_cast<size_t>(i)];
    };
    std::ranges::stable_sort(order, std::greater(), [&](int32_t i) { return tile(i).cost; });
    std::vector<std::pair<int64_t, int>> loads;  // a heap, least on top
    for (int b = 0; b < blocks; ++b) loads.emplace_back(0, b);
    for (const int32_t i : order) {
      for (int head = 0; head < spec_.kv_heads; ++head) {
        std::ranges::pop_heap(loads, std::greater());
        auto& [load, block] = loads.back();
        load += tile(i).cost;
        work_[static_cast<size_t>(block)].push_back(i * spec_.kv_heads + head);
        std::ranges::push_heap(loads, std::greater());
      }
    }
    for (auto& of_block : work_) {
      std::ranges::stable_sort(of_block, std::less(),
                               [&](int32_t w) { return w % spec_.kv_heads; });
    }
  }

  void WritePlan() {
    const PlanLayout layout = Layout();
    GALE_CHECK_LE(layout.bytes, batch_.host_plan.size());
    std::byte* plan = batch_.host_plan.data();
    std::memset(plan, 0, layout.tiles);
    const int32_t num_tiles = decode_tiles_ * spec_.kv_heads;
    const int32_t even = (num_tiles + Limits().num_sms - 1) / Limits().num_sms;
    const DecodeHeader header{static_cast<int32_t>(decode_.size()) - 1, num_tiles,
                              std::max(even, kMinDecodeShare), 0};
    std::memcpy(plan, &header, sizeof(header));
    std::ranges::copy(decode_, reinterpret_cast<DecodeSequence*>(plan + layout.decode_sequences));
    auto* tile = reinterpret_cast<RowTile*>(plan + layout.tiles);
    for (const CostedTile& costed : tiles_) *tile++ = costed.tile;
    auto* first_work = reinterpret_cast<int32_t*>(plan + layout.first_work);
    auto* work = reinterpret_cast<int32_t*>(plan + layout.work);
    for (const auto& of_block : work_) {
      work = std::ranges::copy(of_block, work).out;
      first_work[1] = first_work[0] + static_cast<int32_t>(of_block.size());
      ++first_work;
    }
  }

  size_t PartialBytes(int64_t rows) const {
    return static_cast<size_t>(rows) *
           (static_cast<size_t>(layout_.padded_dim) * sizeof(float) + sizeof(float2));
  }
  int64_t MaxPartialTiles() const {
    return static_cast<int64_t>(kMaxPartialBytes / PartialBytes(kTileRows));
  }

  /// Gives `params` room for partial rows; false: there is not enough memory.
  bool SetPartials(CudaStream& stream, int64_t rows, AttentionParams* params) const {
    auto* scratch = static_cast<char*>(stream.Scratch(PartialBytes(rows)));
    params->partial_out = reinterpret_cast<float*>(scratch);
    params->partial_stats = reinterpret_cast<float2*>(
        scratch + static_cast<size_t>(rows * layout_.padded_dim) * sizeof(float));
    return scratch != nullptr;
  }

  /// Of a tile of codes in the shared memory of the kernel for many rows.
  int RawSlotBytes() const {
    return KvTileBytes(2, static_cast<int>(KvRowBytes(spec_.kv, layout_.padded_dim)));
  }

  template <class T>
  T* InPlan(size_t offset) const {
    return reinterpret_cast<T*>(DevicePlan() + offset);
  }

  template <int kDim>
  void RunDim(CudaStream& stream, const AttentionArgs& args) const {
    AttentionParams params = CommonParams(args);
    const PlanLayout layout = Layout();
    const auto blocks = static_cast<unsigned>(Limits().num_sms);
    if (batch_.fixed_launches ? !HasFixedDecode() : !tiles_.empty()) {
      using Tile = WgmmaAttention<kDim>;
      const int64_t tiles =
          batch_.fixed_launches ? MaxPartialTiles() : num_partials_ * spec_.kv_heads;
      if (tiles > 0 && !SetPartials(stream, tiles * kTileRows, &params)) return;
      params.chunk_counters = InPlan<int32_t>(layout.part_counters);
      const WgmmaPlan plan{InPlan<int32_t>(layout.first_work), InPlan<int32_t>(layout.work),
                           InPlan<RowTile>(layout.tiles)};
      const int raw_bytes = IsQuantized(spec_.kv) ? Tile::kRawSlots * RawSlotBytes() : 0;
      stream.Launch(
          {dim3(blocks), dim3(Tile::kThreads), static_cast<size_t>(Tile::kSharedBytes + raw_bytes)},
          IsQuantized(spec_.kv) ? AttentionWgmmaKernel<kDim, true>
                                : AttentionWgmmaKernel<kDim, false>,
          tile_map_, params, plan);
    }
    if (batch_.fixed_launches ? HasFixedDecode() : decode_tiles_ > 0) {
      if (!SetPartials(stream, int64_t{2} * blocks * kDecodeRows, &params)) return;
      params.chunk_counters = InPlan<int32_t>(layout.decode_counters);
      const DecodePlan plan{InPlan<DecodeHeader>(0),
                            InPlan<DecodeSequence>(layout.decode_sequences)};
      const int rows = batch_.fixed_launches ? group_ : decode_rows_;
      const DecodeKernel kernel = IsQuantized(spec_.kv)
                                      ? QuantizedDecodeKernel(spec_.kv, kDim, rows)
                                      : DecodeKernelOf<kDim, KvFormat::kBf16>(rows);
      stream.Launch({dim3(blocks), dim3(kernel.threads), kernel.shared_bytes}, kernel.function,
                    decode_map_, params, plan);
    }
  }

  CUtensorMap decode_map_{};
  CUtensorMap tile_map_{};
  std::vector<DecodeSequence> decode_;
  int32_t decode_tiles_ = 0;  ///< of one kv head
  int decode_rows_ = 0;       ///< the most of a sequence
  std::vector<CostedTile> tiles_;
  int64_t num_partials_ = 0;                ///< tiles of partial rows of one kv head
  std::vector<std::vector<int32_t>> work_;  ///< [block]
};

}  // namespace

bool SuitsHopperAttention(const AttentionSpec& spec, int padded_dim) {
  return spec.numerics == Numerics::kFast && spec.kind != KvKind::kLatent &&
         spec.dtype == DType::kBf16 && spec.kv != KvFormat::kF32 && spec.scale > 0 &&
         (padded_dim == 64 || padded_dim == 128 || padded_dim == 256) &&
         spec.q_heads / spec.kv_heads <= kDecodeRows && Limits().major == 9 && HasTensorMaps();
}

std::unique_ptr<CudaAttention> CreateHopperAttention(const AttentionSpec& spec, int padded_dim) {
  return std::make_unique<HopperAttention>(spec, padded_dim);
}

}  // namespace gale::cuda
