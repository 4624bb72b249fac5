// Causal self-attention with grouped key/value heads (arXiv:2305.13245) over the paged cache.
#pragma once

#include <memory>
#include <string>

#include "nn/forward_context.h"
#include "nn/linear.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"

namespace gale {

struct AttentionConfig {
  int hidden = 0;
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

/// Where the step's tokens stand.
struct AttentionRows {
  TensorView positions;     ///< i32 [tokens]
  TensorView slot_mapping;  ///< i32 [tokens], of the layer's group
};

class Attention {
 public:
  /// `name`: "model.layers.3.self_attn". `layer`: index within attention group `group`. `rotary`
  /// outlives this.
  Attention(ParamBuilder& builder, const QuantScheme& scheme, const AttentionConfig& config,
            const RotaryEmbedding& rotary, const std::string& name, int group, int layer);

  /// Upper bound of what Forward takes of the scratch memory for so many rows.
  size_t ScratchBytes(int tokens) const;
  /// In place on x [tokens, hidden].
  void Forward(ForwardContext& context, const AttentionRows& rows, const TensorView& x) const;
  int group() const { return group_; }
  /// Fills in this layer's weights, for a back end that fuses the whole decoder; false when it has
  /// what such a back end does not know.
  bool Describe(DecoderLayerWeights& weights) const;

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
