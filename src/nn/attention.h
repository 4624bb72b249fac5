// Causal self-attention with grouped key/value heads (arXiv:2305.13245) over the paged cache.
#pragma once

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
  bool qk_norm = false;  ///< RMS norm of each head of q and k before the rotation (Qwen3)
  float norm_eps = 1e-6F;
};

/// Where the step's tokens stand, and memory for the layer's intermediate values.
struct AttentionIo {
  TensorView positions;     ///< i32 [tokens]
  TensorView slot_mapping;  ///< i32 [tokens]
  TensorView qkv;           ///< [tokens, (q_heads + 2 * kv_heads) * head_dim]; overwritten
  TensorView heads;         ///< [tokens, q_heads, head_dim]; overwritten
};

class Attention {
 public:
  /// `name`: "model.layers.3.self_attn". `layer`: index within attention group `group`.
  Attention(ParamBuilder& builder, const QuantScheme& scheme, const AttentionConfig& config,
            const std::string& name, int group, int layer);

  /// In place on x [tokens, hidden].
  void Forward(ForwardContext& context, const RotaryEmbedding& rotary, const AttentionIo& io,
               const TensorView& x) const;
  /// Fills in this layer's weights, for a back end that fuses the whole decoder.
  void Describe(DecoderLayerWeights& weights) const;

 private:
  AttentionConfig config_;
  int group_;
  int layer_;
  Linear qkv_;
  Linear o_;
  std::unique_ptr<RmsNorm> q_norm_;  ///< both null without qk_norm
  std::unique_ptr<RmsNorm> k_norm_;
};

}  // namespace gale
