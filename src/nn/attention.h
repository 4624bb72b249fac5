// Causal self-attention with grouped key/value heads (arXiv:2305.13245) over the paged cache.
#pragma once

#include <memory>
#include <string>

#include "nn/linear.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "nn/self_attention.h"

namespace gale {

struct AttentionConfig {
  int hidden = 0;
  int input = 0;  ///< elements that q, k and v are made from; 0: hidden
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  bool qkv_bias = false;
  bool o_bias = false;
  bool fused_qkv = false;  ///< the checkpoint has all three in one tensor, qkv_proj
  bool qk_norm = false;    ///< RMS norm of each head of q and k before the rotation (Qwen3)
  bool sinks = false;      ///< a logit for each query head that takes its share of the softmax
  bool interleaved_rope = false;
  float norm_eps = 1e-6F;
  float norm_weight_offset = 0;
};

class Attention final : public SelfAttention {
 public:
  /// `name`: "model.layers.3.self_attn". `layer`: index within attention group `group`. `rotary`
  /// outlives this.
  Attention(ParamBuilder& builder, const QuantScheme& scheme, const AttentionConfig& config,
            const RotaryEmbedding& rotary, const std::string& name, int group, int layer);

  size_t ScratchBytes(int tokens) const override;
  void Forward(ForwardContext& context, const AttentionRows& rows,
               const TensorView& x) const override {
    Forward(context, rows, x, x);
  }
  /// x [tokens, input], out [tokens, hidden].
  void Forward(ForwardContext& context, const AttentionRows& rows, const TensorView& x,
               const TensorView& out) const;
  int group() const override { return group_; }
  bool Describe(DecoderLayerWeights& weights) const override;

 private:
  int64_t QkvWidth() const {
    return (int64_t{config_.q_heads} + 2 * int64_t{config_.kv_heads}) * config_.head_dim;
  }

  AttentionConfig config_;
  DType dtype_;
  const RotaryEmbedding& rotary_;
  int group_;
  int layer_;
  Linear qkv_;
  Linear o_;
  std::unique_ptr<RmsNorm> q_norm_;  ///< both null without qk_norm
  std::unique_ptr<RmsNorm> k_norm_;
  TensorView sinks_;  ///< f32 [q_heads] or empty
};

}  // namespace gale
