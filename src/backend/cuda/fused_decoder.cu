// The persistent decoder kernels behind FusedDecoder, one for a row and one for several: what they
// support, their buffers, their launch.
#include <algorithm>
#include <bit>
#include <vector>

#include "backend/cuda/fused_decoder_batch.cuh"
#include "backend/cuda/fused_decoder_kernel.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/tensor_map.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

struct Kernels {
  void (*one_row)(FusedParams);
  void (*batch)(BatchParams);
};

/// The kernels for a head size; null where there are none.
Kernels FindKernels(int head_dim) {
  if (head_dim == 64) return {FusedDecodeKernel<64>, FusedBatchKernel<64>};
  if (head_dim == 128) return {FusedDecodeKernel<128>, FusedBatchKernel<128>};
  return {};
}

/// The maps (kFusedMaps) of a weight: `planes` matrices of n rows one after another, whose tiles
/// have rows of each. `unit`: rows that belong to one SM together.
Status AppendMaps(const TensorView& weight, int planes, cuuint64_t unit,
                  std::vector<CUtensorMap>& maps) {
  const auto rows = static_cast<cuuint64_t>(weight.dim(0) / planes);
  const auto columns = static_cast<cuuint64_t>(weight.dim(1));
  const auto row_bytes = columns * sizeof(bf16);
  const auto sms = static_cast<cuuint64_t>(Limits().num_sms);
  const cuuint64_t least = rows / unit / sms * unit;
  const cuuint64_t most = (rows / unit + sms - 1) / sms * unit;
  const cuuint64_t whole = 16 / static_cast<cuuint64_t>(planes);
  const cuuint64_t dims[] = {columns, rows, static_cast<cuuint64_t>(planes), 1};
  const cuuint64_t strides[] = {row_bytes, rows * row_bytes, weight.dim(0) * row_bytes};
  for (const cuuint64_t height : {std::min(whole, most), most % whole, least % whole}) {
    const cuuint32_t box[] = {fused::kBoxColumns,
                              static_cast<cuuint32_t>(std::max<cuuint64_t>(height, 1)),
                              static_cast<cuuint32_t>(planes), 1};
    // Lines of L2 that are promoted come at nine tenths of the rate.
    if (!EncodeTensorMap(weight.data, dims, strides, box, &maps.emplace_back(),
                         CU_TENSOR_MAP_L2_PROMOTION_NONE)) {
      return MakeError(ErrorCode::kDevice, "cuda: the driver makes no tensor map of a weight");
    }
  }
  return {};
}

/// All of a decoder's maps. `unit`: of the rows whose products go into hidden or intermediate
/// vectors.
Result<std::vector<CUtensorMap>> MakeMaps(const DecoderDescription& decoder, cuuint64_t unit) {
  std::vector<CUtensorMap> maps;
  for (const DecoderLayerWeights& layer : decoder.layers) {
    GALE_RETURN_IF_ERROR(AppendMaps(layer.qkv, 1, 1, maps));
    GALE_RETURN_IF_ERROR(AppendMaps(layer.o, 1, unit, maps));
    GALE_RETURN_IF_ERROR(AppendMaps(layer.gate_up, 2, unit, maps));
    GALE_RETURN_IF_ERROR(AppendMaps(layer.down, 1, unit, maps));
  }
  GALE_RETURN_IF_ERROR(AppendMaps(decoder.lm_head, 1, 1, maps));
  return maps;
}

/// residual = embedding[id] (~slot: of last_tokens[slot]) with the tag of a layer before the first,
/// and the same tag for all that layers will write: what the step before left there would pass for
/// this step's.
__global__ void BeginStepKernel(const bf16* embedding, const int32_t* id,
                                const int32_t* last_tokens, float* residual, int hidden,
                                uint4* stale, int64_t stale_vectors) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t row = *id < 0 ? last_tokens[~*id] : *id;
  for (int64_t i = first; i < hidden; i += step) {
    residual[i] = fused::Tag(__bfloat162float(embedding[row * hidden + i]), 1);
  }
  for (int64_t i = first; i < stale_vectors; i += step) stale[i] = {1, 1, 1, 1};
}

/// Parts of one buffer, of which what follows MarkStale is to be marked before a step.
class BufferParts {
 public:
  explicit BufferParts(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  void Take(T** part, int64_t elements) {
    *part = reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (static_cast<size_t>(elements) * sizeof(T) + 255) / 256 * 256;
  }
  void MarkStale() { stale_begin_ = bytes_; }
  uint4* stale() const { return reinterpret_cast<uint4*>(base_ + stale_begin_); }
  int64_t stale_vectors() const {
    return static_cast<int64_t>((bytes_ - stale_begin_) / sizeof(uint4));
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
  size_t stale_begin_ = 0;
};

class CudaFusedDecoder final : public FusedDecoder {
 public:
  explicit CudaFusedDecoder(const DecoderDescription& decoder)
      : embedding_(decoder.embedding.As<const bf16>()) {
    params_.num_layers = static_cast<int>(decoder.layers.size());
    params_.hidden = decoder.hidden;
    params_.q_heads = decoder.attention.q_heads;
    params_.kv_heads = decoder.attention.kv_heads;
    params_.group = params_.q_heads / params_.kv_heads;
    params_.intermediate = decoder.intermediate;
    params_.vocab = decoder.vocab;
    params_.norm_eps = decoder.norm_eps;
    params_.attention_scale = decoder.attention.scale;
    params_.rotary_dim = static_cast<int>(2 * decoder.inv_freq.dim(0));
    params_.final_norm = decoder.final_norm.As<const bf16>();
    params_.inv_freq = decoder.inv_freq.As<const float>();
    params_.rows = 1;
    head_dim_ = decoder.attention.head_dim;
    for (int i = 0; i < params_.num_layers; ++i) {
      const DecoderLayerWeights& layer = decoder.layers[i];
      params_.layers[i] = {.input_norm = layer.input_norm.As<const bf16>(),
                           .qkv_bias = layer.qkv_bias.As<const bf16>(),
                           .q_norm = layer.q_norm.As<const bf16>(),
                           .k_norm = layer.k_norm.As<const bf16>(),
                           .mlp_norm = layer.mlp_norm.As<const bf16>()};
    }
  }

  Status Prepare(const DecoderDescription& decoder) {
    batch_.model = params_;
    batch_.model.max_splits = kFusedMaxSplits;
    for (; batch_.model.rows < kFusedMaxRows; ++batch_.model.rows) {
      BatchParams next = batch_;
      ++next.model.rows;
      if (BatchStages(next) < kMinStages) break;
    }
    // Every SM has a part in every phase: that is how one knows that all have gone on.
    max_rows_ = params_.intermediate / fused::kVector >= Limits().num_sms ? batch_.model.rows : 1;

    FusedParams one = params_;
    one.max_splits = kFusedMaxSplits;
    const size_t bytes = std::max(Lay(one, nullptr).bytes(), Lay(batch_, nullptr).bytes());
    GALE_ASSIGN_OR_RETURN(buffer_, Allocate(bytes, MemoryKind::kDevice));
    GALE_RETURN_IF_ERROR(CopyMaps(decoder, 1, maps_, params_));
    return CopyMaps(decoder, fused::kVector, batch_maps_, batch_.model);
  }

  bool Supports(const AttentionBatch& batch) const override {
    const int32_t rows = batch.cu_seqlens_q.back();
    if (rows < 1 || rows > max_rows_) return false;
    // Each query head reads its keys for itself: past a few rounds of work items an attention that
    // reads them once a group is faster.
    constexpr int kMaxRounds = 8;
    constexpr int kMaxBatchRounds = 2;
    const int64_t items = Items(batch, kFusedSplitTokens);
    const int longest = *std::ranges::max_element(batch.seq_lens_upper);
    if (Splits(longest, kFusedSplitTokens) > kFusedMaxSplits) return false;
    return rows == 1 ? items <= int64_t{kMaxRounds} * Limits().num_sms
                     : items <= int64_t{kMaxBatchRounds} * AttentionWarps();
  }

  void Run(Stream& stream, const FusedDecodeArgs& args) override {
    GALE_CHECK(Supports(*args.attention));
    if (args.attention->cu_seqlens_q.back() == 1) {
      RunOne(AsCuda(stream), args);
    } else {
      RunBatch(AsCuda(stream), args);
    }
  }

  /// Whether one block of the kernel for a row fits.
  bool Fits() const { return RingStages(params_) >= kMinStages; }

 private:
  // The producer waits for the stage so many before, which must still have its place.
  static constexpr int kMinStages = fused::kStagesInFlight;

  static int Splits(int positions, int split_tokens) {
    return std::max(1, (positions + split_tokens - 1) / split_tokens);
  }
  /// Of attention.
  int64_t Items(const AttentionBatch& batch, int split_tokens) const {
    int64_t items = 0;
    for (size_t seq = 0; seq < batch.seq_lens_upper.size(); ++seq) {
      const int rows = batch.cu_seqlens_q[seq + 1] - batch.cu_seqlens_q[seq];
      items += int64_t{Splits(batch.seq_lens_upper[seq], split_tokens)} * rows * params_.q_heads;
    }
    return items;
  }
  static int64_t AttentionWarps() { return int64_t{Limits().num_sms} * fused::kConsumerWarps; }

  Status CopyMaps(const DecoderDescription& decoder, int unit, Buffer& buffer,
                  FusedParams& params) const {
    GALE_ASSIGN_OR_RETURN(const std::vector<CUtensorMap> maps,
                          MakeMaps(decoder, static_cast<cuuint64_t>(unit)));
    const size_t bytes = maps.size() * sizeof(CUtensorMap);
    GALE_ASSIGN_OR_RETURN(buffer, Allocate(bytes, MemoryKind::kDevice));
    params.maps = static_cast<const CUtensorMap*>(buffer.data());
    return ToStatus(cudaMemcpy(buffer.data(), maps.data(), bytes, cudaMemcpyHostToDevice),
                    "tensor maps of the fused decoder");
  }

  static void SetStep(const FusedDecodeArgs& args, FusedParams& params) {
    const AttentionBatch& batch = *args.attention;
    params.rows = batch.cu_seqlens_q.back();
    for (size_t seq = 0; seq + 1 < batch.cu_seqlens_q.size(); ++seq) {
      for (int row = batch.cu_seqlens_q[seq]; row < batch.cu_seqlens_q[seq + 1]; ++row) {
        params.row_seq[row] = static_cast<int>(seq);
        params.row_first[row] = batch.cu_seqlens_q[seq];
      }
    }
    params.positions = args.positions.As<const int32_t>();
    params.block_tables = batch.block_tables.As<const int32_t>();
    params.slot_mapping = batch.slot_mapping.As<const int32_t>();
    params.max_blocks = static_cast<int>(batch.block_tables.dim(1));
    params.block_shift = std::countr_zero(static_cast<unsigned>(args.cache.block_tokens));
    params.kv = args.cache.blocks.As<uint8_t>();
    params.kv_block_bytes = args.cache.blocks.strides[0];
    params.logits = args.logits.As<float>();
  }

  // All blocks of a kernel are resident at once: they wait for one another.
  static dim3 OnePerSm() { return dim3(static_cast<unsigned>(Limits().num_sms)); }

  void RunOne(CudaStream& stream, const FusedDecodeArgs& args) {
    FusedParams params = params_;
    SetStep(args, params);
    params.max_splits = fused::NumSplits(args.attention->seq_lens_upper[0]);
    const BufferParts parts = Lay(params, buffer_.data());
    params.ring_stages = RingStages(params);
    stream.Launch({OnePerSm(), dim3(256)}, BeginStepKernel, embedding_,
                  args.token_ids.As<const int32_t>(), args.last_tokens.As<const int32_t>(),
                  params.mlp_residual, params.hidden, parts.stale(), parts.stale_vectors());
    stream.Launch({OnePerSm(), dim3(fused::kThreads), SharedBytes(params)},
                  FindKernels(head_dim_).one_row, params);
  }

  void RunBatch(CudaStream& stream, const FusedDecodeArgs& args) {
    const AttentionBatch& batch = *args.attention;
    BatchParams params = batch_;
    SetStep(args, params.model);
    // As short as all find a warp at once.
    params.split_tokens = 16;
    const int longest = *std::ranges::max_element(batch.seq_lens_upper);
    while (params.split_tokens < kFusedSplitTokens &&
           (Items(batch, params.split_tokens) > AttentionWarps() ||
            Splits(longest, params.split_tokens) > kFusedMaxSplits)) {
      params.split_tokens *= 2;
    }
    params.model.max_splits = Splits(longest, params.split_tokens);
    const BufferParts parts = Lay(params, buffer_.data());
    params.model.ring_stages = BatchStages(params);
    stream.Launch({OnePerSm(), dim3(256)}, BeginBatchKernel, params, embedding_,
                  args.token_ids.As<const int32_t>(), args.last_tokens.As<const int32_t>(),
                  parts.stale(), parts.stale_vectors());
    stream.Launch({OnePerSm(), dim3(fused::kThreads), SharedBytes(params)},
                  FindKernels(head_dim_).batch, params);
  }

  int64_t QkvWidth() const {
    return (int64_t{params_.q_heads} + 2 * int64_t{params_.kv_heads}) * head_dim_;
  }

  BufferParts Lay(FusedParams& params, void* base) const {
    BufferParts parts(base);
    parts.Take(&params.mlp_residual, params.hidden);
    parts.MarkStale();
    parts.Take(&params.attention_residual, params.hidden);
    parts.Take(&params.qkv_out, QkvWidth());
    parts.Take(&params.partial_out, int64_t{params.q_heads} * params.max_splits * (head_dim_ + 4));
    parts.Take(&params.mlp_act, params.intermediate);
    return parts;
  }

  BufferParts Lay(BatchParams& params, void* base) const {
    const FusedParams& model = params.model;
    const int64_t rows = model.rows;
    BufferParts parts(base);
    parts.Take(&params.residual, rows * model.hidden);
    parts.Take(&params.qkv_input, rows * model.hidden);
    parts.Take(&params.qkv_squares, rows * Limits().num_sms);
    parts.MarkStale();
    parts.Take(&params.mlp_input, rows * model.hidden);
    parts.Take(&params.mlp_squares, rows * Limits().num_sms);
    parts.Take(&params.qkv, rows * QkvWidth());
    // Merging reads past the last split.
    const int64_t splits = rows * model.q_heads * model.max_splits + kFusedMaxMerged;
    parts.Take(&params.partials, splits * (head_dim_ + 4));
    parts.Take(&params.attended, rows * model.q_heads * head_dim_);
    parts.Take(&params.activations, rows * model.intermediate);
    return parts;
  }

  size_t SharedBytes(const FusedParams& params) const {
    fused::SharedLayout layout;
    return static_cast<size_t>(
        fused::MakeLayout(nullptr, params, head_dim_, Limits().num_sms, &layout));
  }
  size_t SharedBytes(const BatchParams& params) const {
    fused::BatchLayout layout;
    return static_cast<size_t>(
        fused::MakeBatchLayout(nullptr, params, head_dim_, Limits().num_sms, &layout));
  }

  static int StagesThatFit(size_t other_bytes) {
    const int room = Limits().max_shared_bytes - static_cast<int>(other_bytes);
    return std::min(fused::kMaxStages, std::max(room, 0) / fused::kStageBytes);
  }
  int RingStages(FusedParams params) const {
    params.ring_stages = 0;
    return StagesThatFit(SharedBytes(params));
  }
  int BatchStages(BatchParams params) const {
    params.model.ring_stages = 0;
    return StagesThatFit(SharedBytes(params));
  }

  const bf16* embedding_;
  int head_dim_ = 0;
  int max_rows_ = 1;
  FusedParams params_{};
  BatchParams batch_{};
  Buffer buffer_;
  Buffer maps_;
  Buffer batch_maps_;
};

bool IsPlainBf16(const TensorView& weight) { return weight.dtype == DType::kBf16; }

}  // namespace

Result<std::unique_ptr<FusedDecoder>> CreateFusedDecoder(const DecoderDescription& decoder) {
  const AttentionSpec& attention = decoder.attention;
  const bool is_bf16 = IsPlainBf16(decoder.lm_head) && attention.dtype == DType::kBf16 &&
                       attention.kv == KvFormat::kBf16 &&
                       std::ranges::all_of(decoder.layers, [](const DecoderLayerWeights& layer) {
                         return IsPlainBf16(layer.qkv) && IsPlainBf16(layer.o) &&
                                IsPlainBf16(layer.gate_up) && IsPlainBf16(layer.down);
                       });
  // Weights are read 16 bytes at a time, activations 32 columns at a time.
  const int q_width = attention.q_heads * attention.head_dim;
  const bool is_aligned =
      decoder.hidden % 32 == 0 && decoder.intermediate % 32 == 0 && q_width % 32 == 0;
  // Every SM has a part in every phase: that is how one knows that all have gone on.
  const bool is_wide =
      std::min({decoder.hidden, decoder.intermediate, q_width}) >= Limits().num_sms;
  if (Limits().major < 9 || !HasTensorMaps() ||
      FindKernels(attention.head_dim).one_row == nullptr || !is_bf16 || !is_aligned || !is_wide ||
      attention.kind != KvKind::kFull || decoder.layers.size() > kFusedMaxLayers) {
    return nullptr;
  }
  auto fused = std::make_unique<CudaFusedDecoder>(decoder);
  if (!fused->Fits()) return nullptr;
  GALE_RETURN_IF_ERROR(fused->Prepare(decoder));
  return fused;
}

}  // namespace gale::cuda
