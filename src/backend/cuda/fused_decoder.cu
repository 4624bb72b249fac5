// The persistent decoder kernel behind FusedDecoder: what it supports, its buffers, its launch.
#include <algorithm>
#include <array>
#include <cmath>

#include "backend/cuda/fused_decoder_kernel.cuh"
#include "backend/cuda/ops.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

using FusedKernel = void (*)(FusedParams);

/// The kernel for a head size and a number of query heads per kv head, or null.
FusedKernel FindKernel(int head_dim, int group) {
  constexpr int kMaxGroup = 8;
  static constexpr std::array<FusedKernel, kMaxGroup> kDim64 = {
      FusedDecodeKernel<64, 1>, FusedDecodeKernel<64, 2>, FusedDecodeKernel<64, 3>,
      FusedDecodeKernel<64, 4>, FusedDecodeKernel<64, 5>, FusedDecodeKernel<64, 6>,
      FusedDecodeKernel<64, 7>, FusedDecodeKernel<64, 8>};
  static constexpr std::array<FusedKernel, kMaxGroup> kDim128 = {
      FusedDecodeKernel<128, 1>, FusedDecodeKernel<128, 2>, FusedDecodeKernel<128, 3>,
      FusedDecodeKernel<128, 4>, FusedDecodeKernel<128, 5>, FusedDecodeKernel<128, 6>,
      FusedDecodeKernel<128, 7>, FusedDecodeKernel<128, 8>};
  if (group < 1 || group > kMaxGroup) return nullptr;
  if (head_dim == 64) return kDim64[group - 1];
  if (head_dim == 128) return kDim128[group - 1];
  return nullptr;
}

/// residual[r] = embedding[ids[r]] in f32; also zeroes the grid barrier for the kernel behind it.
__global__ void BeginStepKernel(const bf16* embedding, const int32_t* ids, float* residual,
                                int hidden, uint32_t* barrier) {
  LaunchDependents();
  WaitForPrerequisites();
  const bf16* row = embedding + static_cast<int64_t>(ids[blockIdx.x]) * hidden;
  float* out = residual + static_cast<int64_t>(blockIdx.x) * hidden;
  for (int i = threadIdx.x; i < hidden; i += blockDim.x) out[i] = __bfloat162float(row[i]);
  if (blockIdx.x == 0 && threadIdx.x == 0) *barrier = 0;
}

class CudaFusedDecoder final : public FusedDecoder {
 public:
  CudaFusedDecoder(const DecoderDescription& decoder, FusedKernel kernel)
      : kernel_(kernel), embedding_(decoder.embedding.As<const bf16>()) {
    params_.num_layers = static_cast<int>(decoder.layers.size());
    params_.hidden = decoder.hidden;
    params_.q_heads = decoder.attention.q_heads;
    params_.kv_heads = decoder.attention.kv_heads;
    params_.intermediate = decoder.intermediate;
    params_.vocab = decoder.vocab;
    params_.norm_eps = decoder.norm_eps;
    params_.attention_scale = decoder.attention.scale;
    params_.rotary_dim = static_cast<int>(2 * decoder.inv_freq.dim(0));
    params_.final_norm = decoder.final_norm.As<const bf16>();
    params_.lm_head = decoder.lm_head.As<const bf16>();
    params_.inv_freq = decoder.inv_freq.As<const float>();
    head_dim_ = decoder.attention.head_dim;
    for (int i = 0; i < params_.num_layers; ++i) {
      const DecoderLayerWeights& layer = decoder.layers[i];
      params_.layers[i] = {.input_norm = layer.input_norm.As<const bf16>(),
                           .qkv = layer.qkv.As<const bf16>(),
                           .qkv_bias = layer.qkv_bias.As<const bf16>(),
                           .q_norm = layer.q_norm.As<const bf16>(),
                           .k_norm = layer.k_norm.As<const bf16>(),
                           .o = layer.o.As<const bf16>(),
                           .mlp_norm = layer.mlp_norm.As<const bf16>(),
                           .gate_up = layer.gate_up.As<const bf16>(),
                           .down = layer.down.As<const bf16>()};
    }
  }

  Status Prepare() {
    const int64_t rows = kFusedMaxRows;
    const int64_t q_width = int64_t{params_.q_heads} * head_dim_;
    const int64_t splits = rows * params_.q_heads * kFusedMaxSplits;
    size_t bytes = 0;
    const auto reserve = [&](int64_t elements, size_t element_bytes) {
      const size_t offset = bytes;
      bytes += (static_cast<size_t>(elements) * element_bytes + 255) / 256 * 256;
      return offset;
    };
    const size_t residual = reserve(rows * params_.hidden, sizeof(float));
    const size_t qkv =
        reserve(rows * (q_width + 2 * int64_t{params_.kv_heads} * head_dim_), sizeof(float));
    const size_t partial = reserve(splits * head_dim_, sizeof(float));
    const size_t partial_ml = reserve(splits, sizeof(float2));
    const size_t attention = reserve(rows * q_width, sizeof(bf16));
    const size_t act = reserve(rows * params_.intermediate, sizeof(bf16));
    const size_t barrier = reserve(1, sizeof(uint32_t));
    GALE_ASSIGN_OR_RETURN(buffer_, Allocate(bytes, MemoryKind::kDevice));
    auto* base = static_cast<char*>(buffer_.data());
    params_.residual = reinterpret_cast<float*>(base + residual);
    params_.qkv_out = reinterpret_cast<float*>(base + qkv);
    params_.partial_out = reinterpret_cast<float*>(base + partial);
    params_.partial_ml = reinterpret_cast<float2*>(base + partial_ml);
    params_.attention_out = reinterpret_cast<bf16*>(base + attention);
    params_.mlp_act = reinterpret_cast<bf16*>(base + act);
    params_.barrier = reinterpret_cast<uint32_t*>(base + barrier);
    return {};
  }

  bool Supports(const AttentionBatch& batch) const override {
    const int32_t rows = batch.cu_seqlens_q.back();
    if (rows < 1 || rows > kFusedMaxRows || RingStages(rows) < kMinStages) return false;
    return std::ranges::all_of(batch.seq_lens_upper, [](int32_t length) {
      return length <= kFusedSplitTokens * kFusedMaxSplits;
    });
  }

  void Run(Stream& stream, const FusedDecodeArgs& args) override {
    GALE_CHECK(Supports(*args.attention));
    const AttentionBatch& batch = *args.attention;
    FusedParams params = params_;
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
    params.block_tokens = args.cache.block_tokens;
    params.kv = args.cache.blocks.As<uint8_t>();
    params.kv_block_bytes = args.cache.blocks.strides[0];
    params.logits = args.logits.As<float>();
    params.ring_stages = RingStages(params.rows);

    CudaStream& cuda_stream = AsCuda(stream);
    cuda_stream.Launch({dim3(static_cast<unsigned>(params.rows)), dim3(256)}, BeginStepKernel,
                       embedding_, args.token_ids.As<const int32_t>(), params.residual,
                       params.hidden, params.barrier);
    // One block per SM, all resident at once: the grid barriers depend on it.
    cuda_stream.Launch({dim3(static_cast<unsigned>(Limits().num_sms)), dim3(fused::kThreads),
                        static_cast<size_t>(fused::FixedSharedBytes(params, head_dim_) +
                                            params.ring_stages * fused::kStageBytes)},
                       kernel_, params);
  }

 private:
  static constexpr int kMinStages = 4;  // fewer cannot cover a grid barrier

  int RingStages(int rows) const {
    FusedParams params = params_;
    params.rows = rows;
    const int room = Limits().max_shared_bytes - fused::FixedSharedBytes(params, head_dim_);
    return std::min(fused::kMaxStages, std::max(room, 0) / fused::kStageBytes);
  }

  FusedKernel kernel_;
  const bf16* embedding_;
  int head_dim_ = 0;
  FusedParams params_{};
  Buffer buffer_;
};

bool IsPlainBf16(const TensorView& weight) { return weight.dtype == DType::kBf16; }

}  // namespace

Result<std::unique_ptr<FusedDecoder>> CreateFusedDecoder(const DecoderDescription& decoder) {
  const AttentionSpec& attention = decoder.attention;
  const FusedKernel kernel = FindKernel(attention.head_dim, attention.q_heads / attention.kv_heads);
  const bool is_bf16 = attention.dtype == DType::kBf16 && attention.kv == DType::kBf16 &&
                       std::ranges::all_of(decoder.layers, [](const DecoderLayerWeights& layer) {
                         return IsPlainBf16(layer.qkv) && IsPlainBf16(layer.o) &&
                                IsPlainBf16(layer.gate_up) && IsPlainBf16(layer.down);
                       });
  // Weights are read 16 bytes at a time, activations 32 columns at a time.
  const bool is_aligned = decoder.hidden % 32 == 0 && decoder.intermediate % 32 == 0 &&
                          attention.q_heads * attention.head_dim % 32 == 0;
  if (Limits().major < 9 || kernel == nullptr || !is_bf16 || !is_aligned ||
      attention.kind != KvKind::kFull || decoder.layers.size() > kFusedMaxLayers) {
    return nullptr;
  }
  auto fused = std::make_unique<CudaFusedDecoder>(decoder, kernel);
  GALE_RETURN_IF_ERROR(fused->Prepare());
  return fused;
}

}  // namespace gale::cuda
