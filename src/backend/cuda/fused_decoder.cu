// The persistent decoder kernel behind FusedDecoder: what it supports, its buffers, its launch.
#include <algorithm>
#include <bit>
#include <vector>

#include "backend/cuda/fused_decoder_kernel.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/tensor_map.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

using FusedKernel = void (*)(FusedParams);

/// The kernel for a head size and a number of rows, or null.
FusedKernel FindKernel(int head_dim, int rows) {
  if (head_dim == 64) {
    return rows == 1 ? FusedDecodeKernel<64, 1> : FusedDecodeKernel<64, kFusedMaxRows>;
  }
  if (head_dim == 128) {
    return rows == 1 ? FusedDecodeKernel<128, 1> : FusedDecodeKernel<128, kFusedMaxRows>;
  }
  return nullptr;
}

/// The two maps of a weight: `planes` matrices of n rows one after another, whose tiles have rows
/// of each (kFusedMaps).
Status AppendMaps(const TensorView& weight, int planes, std::vector<CUtensorMap>& maps) {
  const auto rows = static_cast<cuuint64_t>(weight.dim(0) / planes);
  const auto columns = static_cast<cuuint64_t>(weight.dim(1));
  const auto row_bytes = columns * sizeof(bf16);
  const auto sms = static_cast<cuuint64_t>(Limits().num_sms);
  const auto most = static_cast<cuuint32_t>((rows + sms - 1) / sms);
  const cuuint32_t whole = 16 / static_cast<cuuint32_t>(planes);
  const cuuint64_t dims[] = {columns, rows, static_cast<cuuint64_t>(planes), 1};
  const cuuint64_t strides[] = {row_bytes, rows * row_bytes, weight.dim(0) * row_bytes};
  for (const cuuint32_t height : {std::min(whole, most), most % whole}) {
    const cuuint32_t box[] = {fused::kBoxColumns, std::max<cuuint32_t>(height, 1),
                              static_cast<cuuint32_t>(planes), 1};
    // Lines of L2 that are promoted come at nine tenths of the rate.
    if (!EncodeTensorMap(weight.data, dims, strides, box, &maps.emplace_back(),
                         CU_TENSOR_MAP_L2_PROMOTION_NONE)) {
      return MakeError(ErrorCode::kDevice, "cuda: the driver makes no tensor map of a weight");
    }
  }
  return {};
}

/// residual[r] = embedding[ids[r]] (~slot: of last_tokens[slot]) with the tag of a layer before the
/// first, and the same tag for all that layers will write: what the step before left there would
/// pass for this step's.
__global__ void BeginStepKernel(const bf16* embedding, const int32_t* ids,
                                const int32_t* last_tokens, float* residual, int hidden, int rows,
                                uint4* stale, int64_t stale_vectors) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < int64_t{rows} * hidden; i += step) {
    const int32_t given = ids[i / hidden];
    const int64_t id = given < 0 ? last_tokens[~given] : given;
    residual[i] = fused::Tag(__bfloat162float(embedding[id * hidden + i % hidden]), 1);
  }
  for (int64_t i = first; i < stale_vectors; i += step) stale[i] = {1, 1, 1, 1};
}

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
    const StepBuffers most = Layout(nullptr, kFusedMaxRows, kFusedMaxSplits);
    GALE_ASSIGN_OR_RETURN(buffer_, Allocate(most.bytes, MemoryKind::kDevice));
    std::vector<CUtensorMap> maps;
    for (const DecoderLayerWeights& layer : decoder.layers) {
      GALE_RETURN_IF_ERROR(AppendMaps(layer.qkv, 1, maps));
      GALE_RETURN_IF_ERROR(AppendMaps(layer.o, 1, maps));
      GALE_RETURN_IF_ERROR(AppendMaps(layer.gate_up, 2, maps));
      GALE_RETURN_IF_ERROR(AppendMaps(layer.down, 1, maps));
    }
    GALE_RETURN_IF_ERROR(AppendMaps(decoder.lm_head, 1, maps));
    const size_t bytes = maps.size() * sizeof(CUtensorMap);
    GALE_ASSIGN_OR_RETURN(maps_, Allocate(bytes, MemoryKind::kDevice));
    params_.maps = static_cast<const CUtensorMap*>(maps_.data());
    return ToStatus(cudaMemcpy(maps_.data(), maps.data(), bytes, cudaMemcpyHostToDevice),
                    "tensor maps of the fused decoder");
  }

  bool Supports(const AttentionBatch& batch) const override {
    const int32_t rows = batch.cu_seqlens_q.back();
    if (rows < 1 || rows > kFusedMaxRows) return false;
    // Each query head reads its keys for itself: past a few rounds of work items an attention that
    // reads them once a group is faster.
    constexpr int kMaxRounds = 8;
    int64_t items = 0;
    for (size_t seq = 0; seq < batch.seq_lens_upper.size(); ++seq) {
      const int splits = fused::NumSplits(batch.seq_lens_upper[seq]);
      if (splits > kFusedMaxSplits) return false;
      const int seq_rows = batch.cu_seqlens_q[seq + 1] - batch.cu_seqlens_q[seq];
      items += int64_t{splits} * seq_rows * params_.q_heads;
    }
    return items <= int64_t{kMaxRounds} * Limits().num_sms;
  }

  void Run(Stream& stream, const FusedDecodeArgs& args) override {
    GALE_CHECK(Supports(*args.attention));
    const AttentionBatch& batch = *args.attention;
    FusedParams params = params_;
    params.rows = batch.cu_seqlens_q.back();
    params.max_splits = 1;
    for (size_t seq = 0; seq + 1 < batch.cu_seqlens_q.size(); ++seq) {
      params.max_splits = std::max(params.max_splits, fused::NumSplits(batch.seq_lens_upper[seq]));
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
    const StepBuffers buffers =
        Layout(static_cast<char*>(buffer_.data()), params.rows, params.max_splits);
    params.mlp_residual = buffers.mlp_residual;
    params.attention_residual = buffers.attention_residual;
    params.qkv_out = buffers.qkv_out;
    params.partial_out = buffers.partial_out;
    params.mlp_act = buffers.mlp_act;
    params.ring_stages = RingStages(params);

    CudaStream& cuda_stream = AsCuda(stream);
    const dim3 one_per_sm(static_cast<unsigned>(Limits().num_sms));
    cuda_stream.Launch({one_per_sm, dim3(256)}, BeginStepKernel, embedding_,
                       args.token_ids.As<const int32_t>(), args.last_tokens.As<const int32_t>(),
                       params.mlp_residual, params.hidden, params.rows,
                       reinterpret_cast<uint4*>(buffers.attention_residual),
                       buffers.stale_bytes / static_cast<int64_t>(sizeof(uint4)));
    // All blocks are resident at once: they wait for one another.
    cuda_stream.Launch({one_per_sm, dim3(fused::kThreads), SharedBytes(params)},
                       FindKernel(head_dim_, params.rows), params);
  }

  /// Whether one block of the kernel fits with any number of rows.
  bool Fits() const {
    FusedParams params = params_;
    params.rows = kFusedMaxRows;
    return RingStages(params) >= kMinStages;
  }

 private:
  // The producer waits for the stage so many before, which must still have its place.
  static constexpr int kMinStages = fused::kStagesInFlight;

  struct StepBuffers {
    float* mlp_residual;
    float* attention_residual;  // the first of those that BeginStep marks as stale
    float* qkv_out;
    float* partial_out;
    float* mlp_act;
    int64_t stale_bytes;
    size_t bytes;
  };

  StepBuffers Layout(char* base, int64_t rows, int64_t max_splits) const {
    const int64_t q_width = int64_t{params_.q_heads} * head_dim_;
    size_t offset = 0;
    const auto take = [&](int64_t floats) {
      auto* part = reinterpret_cast<float*>(base + offset);
      offset += (static_cast<size_t>(floats) * sizeof(float) + 255) / 256 * 256;
      return part;
    };
    StepBuffers buffers{};
    buffers.mlp_residual = take(rows * params_.hidden);
    const size_t stale_begin = offset;
    buffers.attention_residual = take(rows * params_.hidden);
    buffers.qkv_out = take(rows * (q_width + 2 * int64_t{params_.kv_heads} * head_dim_));
    buffers.partial_out = take(rows * params_.q_heads * max_splits * (head_dim_ + 4));
    buffers.mlp_act = take(rows * params_.intermediate);
    buffers.stale_bytes = static_cast<int64_t>(offset - stale_begin);
    buffers.bytes = offset;
    return buffers;
  }

  size_t SharedBytes(const FusedParams& params) const {
    fused::SharedLayout layout;
    return static_cast<size_t>(
        fused::MakeLayout(nullptr, params, head_dim_, Limits().num_sms, &layout));
  }

  int RingStages(const FusedParams& params) const {
    FusedParams without_ring = params;
    without_ring.ring_stages = 0;
    const int room = Limits().max_shared_bytes - static_cast<int>(SharedBytes(without_ring));
    return std::min(fused::kMaxStages, std::max(room, 0) / fused::kStageBytes);
  }

  const bf16* embedding_;
  int head_dim_ = 0;
  FusedParams params_{};
  Buffer buffer_;
  Buffer maps_;
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
  if (Limits().major < 9 || !HasTensorMaps() || FindKernel(attention.head_dim, 1) == nullptr ||
      !is_bf16 || !is_aligned || !is_wide || attention.kind != KvKind::kFull ||
      decoder.layers.size() > kFusedMaxLayers) {
    return nullptr;
  }
  auto fused = std::make_unique<CudaFusedDecoder>(decoder);
  if (!fused->Fits()) return nullptr;
  GALE_RETURN_IF_ERROR(fused->Prepare(decoder));
  return fused;
}

}  // namespace gale::cuda
