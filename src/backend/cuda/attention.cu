// Attention over a paged KV cache for all devices: the plan of a step, and which kernel runs.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "backend/cuda/attention_fma.cuh"
#include "backend/cuda/attention_latent.cuh"
#include "backend/cuda/attention_mma.cuh"
#include "backend/cuda/attention_paged.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int64_t kBlocksPerSm = 4;
constexpr size_t kMaxPartialBytes = size_t{32} << 20;  // else sequences are not split

/// Head sizes that the tensor core kernel is compiled for; others are padded to the next one.
constexpr std::array kDims = {32, 64, 80, 96, 128, 256};

int PaddedDim(int head_dim) { return *std::ranges::lower_bound(kDims, head_dim); }

int PaddedLatentDim(int head_dim) {
  return (head_dim + kLatentDepth - 1) / kLatentDepth * kLatentDepth;
}

bool HasKernel(const AttentionSpec& spec) {
  if (spec.kind != KvKind::kLatent) return spec.head_dim <= kDims.back();
  return spec.kv_heads == 1 && PaddedLatentDim(spec.head_dim) <= kMaxLatentDim &&
         spec.value_dim() <= kMaxLatentValueDim;
}

/// What begins the plan of a step; items follow, then the counters of chunks, which are 0.
struct PlanHeader {
  int32_t num_items;
  int32_t padding[7];
};

class TiledAttention final : public PagedAttention {
 public:
  TiledAttention(const AttentionSpec& spec, int padded_dim)
      : PagedAttention(spec, padded_dim),
        on_tensor_cores_(spec.dtype == DType::kBf16 && SuitsTensorCores()) {}

  size_t PlanBytes(int max_tokens, int max_seqs) const override {
    const int64_t tiles = int64_t{max_tokens} * group_ / RowsPerItem() + max_seqs;
    const int64_t chunks = MaxPartials() / spec_.q_heads;
    return sizeof(PlanHeader) + static_cast<size_t>(tiles + chunks) * sizeof(AttentionItem) +
           static_cast<size_t>(int64_t{max_seqs} * spec_.kv_heads) * sizeof(int32_t);
  }

  void Plan(const AttentionBatch& batch) override {
    Begin(batch);
    items_.clear();
    num_partials_ = 0;
    num_split_ = 0;
    any_whole_ = false;
    // Enough blocks as it is: four for each SM.
    split_ = on_tensor_cores_ && NumTiles() * spec_.kv_heads < kBlocksPerSm * Limits().num_sms;
    for (size_t s = 0; s < NumSequences(); ++s) {
      const int chunks = NumChunks(s);
      if (split_ && chunks > 1 && NumRows(s) <= RowsPerItem() &&
          PartialBytes(num_partials_ + int64_t{chunks} * spec_.kv_heads * NumRows(s)) <=
              kMaxPartialBytes) {
        AddChunks(s, chunks);
      } else if (chunks > 0) {
        AddWhole(s);
      }
    }
    WritePlan();
  }

  void Run(Stream& stream, const AttentionArgs& args) override {
    if (!HasWork(args)) return;
    CudaStream& cuda_stream = AsCuda(stream);
    AttentionParams params = Params(args);
    const int64_t num_partials = batch_.fixed_launches && split_ ? MaxPartials() : num_partials_;
    if (num_partials > 0) {
      const size_t out_bytes =
          static_cast<size_t>(num_partials * layout_.padded_dim) * sizeof(float);
      auto* scratch = static_cast<char*>(cuda_stream.Scratch(PartialBytes(num_partials)));
      if (scratch == nullptr) return;
      params.partial_out = reinterpret_cast<float*>(scratch);
      params.partial_stats = reinterpret_cast<float2*>(scratch + out_bytes);
    }
    if (!on_tensor_cores_) {
      is_latent() ? RunFma<kMaxLatentDim>(cuda_stream, params)
                  : RunFma<kMaxHeadDim>(cuda_stream, params);
      return;
    }
    if (is_latent()) {
      cuda_stream.Launch(
          {Grid(), dim3(kLatentThreads), LatentShared::Bytes(layout_.padded_dim)},
          IsQuantized(spec_.kv) ? AttentionLatentKernel<true> : AttentionLatentKernel<false>,
          params);
      return;
    }
    switch (layout_.padded_dim) {
      case 32: RunMma<32>(cuda_stream, params); break;
      case 64: RunMma<64>(cuda_stream, params); break;
      case 80: RunMma<80>(cuda_stream, params); break;
      case 96: RunMma<96>(cuda_stream, params); break;
      case 128: RunMma<128>(cuda_stream, params); break;
      default: RunMma<256>(cuda_stream, params); break;
    }
  }

 private:
  bool SuitsTensorCores() const {
    return spec_.kv != KvFormat::kF32 && (!is_latent() || SuitsLatentKernel());
  }
  bool SuitsLatentKernel() const {
    constexpr int kAligned = 8;  // elements that fragment loads begin at
    return (spec_.head_dim - spec_.value_dim()) % kAligned == 0 &&
           LatentShared::Bytes(layout_.padded_dim) <=
               static_cast<size_t>(Limits().max_shared_bytes);
  }
  /// Of rows; for fixed launches a bound that follows from the numbers of tokens and sequences.
  int64_t NumTiles() const {
    const auto num_sequences = static_cast<int64_t>(NumSequences());
    if (batch_.fixed_launches) return MaxTiles(NumTokens(), num_sequences, RowsPerItem());
    int64_t tiles = 0;
    for (size_t s = 0; s < NumSequences(); ++s) {
      tiles += (NumRows(s) + RowsPerItem() - 1) / RowsPerItem();
    }
    return tiles;
  }
  int RowsPerItem() const {
    const bool is_wide = is_latent() || layout_.padded_dim > 128;
    return on_tensor_cores_ && is_wide ? kLatentRows : kFmaRows;
  }
  size_t PartialBytes(int64_t rows) const {
    return static_cast<size_t>(rows) *
           (static_cast<size_t>(layout_.padded_dim) * sizeof(float) + sizeof(float2));
  }

  int64_t MaxPartials() const { return static_cast<int64_t>(kMaxPartialBytes / PartialBytes(1)); }

  void WritePlan() {
    const size_t items_end = sizeof(PlanHeader) + items_.size() * sizeof(AttentionItem);
    // A graph finds the counters at the end, whatever the number of items.
    const size_t num_split =
        batch_.fixed_launches ? NumSequences() : static_cast<size_t>(num_split_);
    const size_t counter_bytes =
        split_ ? num_split * static_cast<size_t>(spec_.kv_heads) * sizeof(int32_t) : 0;
    counters_offset_ = batch_.fixed_launches ? batch_.host_plan.size() - counter_bytes : items_end;
    GALE_CHECK_LE(items_end, counters_offset_);
    GALE_CHECK_LE(counters_offset_ + counter_bytes, batch_.host_plan.size());
    const PlanHeader header{static_cast<int32_t>(items_.size()), {}};
    std::byte* plan = batch_.host_plan.data();
    std::memcpy(plan, &header, sizeof(header));
    std::copy(items_.begin(), items_.end(),
              reinterpret_cast<AttentionItem*>(plan + sizeof(header)));
    std::memset(plan + counters_offset_, 0, counter_bytes);
  }

  /// Bound on the chunks that the sequence's queries see.
  int NumChunks(size_t s) const {
    const int chunks = (batch_.seq_lens_upper[s] + kChunk - 1) / kChunk;
    if (spec_.kind != KvKind::kSlidingWindow) return chunks;
    return std::min(chunks, (spec_.window + NumTokens(s)) / kChunk + 2);
  }

  AttentionItem Item(size_t s, int first_row) const {
    return {.sequence = static_cast<int32_t>(s),
            .first_token = batch_.cu_seqlens_q[s],
            .num_tokens = NumTokens(s),
            .first_row = first_row,
            .chunk = -1,
            .num_chunks = 0,
            .first_partial = 0,
            .counter = 0};
  }

  void AddWhole(size_t s) {
    for (int row = 0; row < NumRows(s); row += RowsPerItem()) {
      items_.push_back(Item(s, row));
      any_whole_ = true;
    }
  }

  void AddChunks(size_t s, int chunks) {
    if (NumRows(s) == 0) return;
    AttentionItem item = Item(s, 0);
    item.num_chunks = chunks;
    item.first_partial = static_cast<int32_t>(num_partials_);
    item.counter = num_split_++;
    for (item.chunk = 0; item.chunk < chunks; ++item.chunk) items_.push_back(item);
    num_partials_ += int64_t{chunks} * spec_.kv_heads * NumRows(s);
  }

  AttentionParams Params(const AttentionArgs& args) const {
    AttentionParams params = CommonParams(args);
    params.items = reinterpret_cast<const AttentionItem*>(DevicePlan() + sizeof(PlanHeader));
    if (batch_.fixed_launches) params.num_items = reinterpret_cast<const int32_t*>(DevicePlan());
    params.chunk_counters = reinterpret_cast<int32_t*>(DevicePlan() + counters_offset_);
    return params;
  }

  dim3 Grid() const {
    int64_t width = std::ssize(items_);
    if (batch_.fixed_launches) {
      const int64_t for_all_sms =
          (kBlocksPerSm * Limits().num_sms + spec_.kv_heads - 1) / spec_.kv_heads;
      width = split_ ? for_all_sms : NumTiles();
    }
    return dim3(static_cast<unsigned>(width), static_cast<unsigned>(spec_.kv_heads));
  }

  template <int kDim>
  void RunMma(CudaStream& stream, const AttentionParams& params) const {
    using Tile = AttentionTile<kDim>;
    const bool any_whole = any_whole_ || batch_.fixed_launches;
    const size_t shared = Tile::kSharedBytes + (any_whole ? Tile::kTotalBytes : 0);
    stream.Launch(
        {Grid(), dim3(Tile::kThreads), shared},
        IsQuantized(spec_.kv) ? AttentionMmaKernel<kDim, true> : AttentionMmaKernel<kDim, false>,
        params);
  }

  template <int kMaxDim>
  void RunFma(CudaStream& stream, const AttentionParams& params) const {
    const LaunchShape shape{Grid(), dim3(kFmaWarps * kWarp)};
    spec_.dtype == DType::kBf16 ? stream.Launch(shape, FmaKernel<bf16, kMaxDim>(), params)
                                : stream.Launch(shape, FmaKernel<float, kMaxDim>(), params);
  }

  template <class Q, int kMaxDim>
  auto FmaKernel() const {
    if (IsQuantized(spec_.kv)) return AttentionFmaKernel<Q, KvCode, kMaxDim>;
    return spec_.kv == KvFormat::kF32 ? AttentionFmaKernel<Q, float, kMaxDim>
                                      : AttentionFmaKernel<Q, bf16, kMaxDim>;
  }

  bool on_tensor_cores_;
  std::vector<AttentionItem> items_;
  int64_t num_partials_ = 0;  ///< rows
  bool any_whole_ = false;
  bool split_ = false;          ///< sequences of many chunks are
  int32_t num_split_ = 0;       ///< sequences
  size_t counters_offset_ = 0;  ///< bytes from the plan's beginning
};

}  // namespace

std::unique_ptr<CudaAttention> CreateAttention(const AttentionSpec& spec) {
  if (!HasKernel(spec)) return nullptr;
  const bool is_latent = spec.kind == KvKind::kLatent;
  const int padded_dim = is_latent ? PaddedLatentDim(spec.head_dim) : PaddedDim(spec.head_dim);
  if (SuitsHopperAttention(spec, padded_dim)) return CreateHopperAttention(spec, padded_dim);
  return std::make_unique<TiledAttention>(spec, padded_dim);
}

}  // namespace gale::cuda
