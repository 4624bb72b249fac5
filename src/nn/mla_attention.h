// Multi-head latent attention (MLA, arXiv:2405.04434, section 2.1): keys and values of all heads
// are made of one latent vector a position, and only that and one rotated key are cached.
//
// The matrices that would make keys and values of the latent are absorbed into the query and the
// output instead: with k = W_uk c and v = W_uv c, q.k = (W_uk^T q).c and sum p v = W_uv sum p c. So
// attention is that of many query heads over one row [rotated key | latent] a position, whose last
// part is the value, for prompts and decodes alike.
#pragma once

#include <memory>
#include <string>

#include "nn/linear.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "nn/self_attention.h"
#include "weights/mla_config.h"

namespace gale {

class MlaAttention final : public SelfAttention {
 public:
  /// What the attention back end is asked for, but for the number of layers and dtypes.
  static AttentionSpec Spec(const MlaConfig& mla, int heads, const RopeConfig& rope);

  /// `name`: "model.layers.3.self_attn". `layer`: index within attention group `group`. `rotary`
  /// outlives this.
  MlaAttention(ParamBuilder& builder, const QuantScheme& scheme, const MlaConfig& mla,
               int64_t hidden, int heads, const RotaryEmbedding& rotary, const std::string& name,
               int group, int layer);

  size_t ScratchBytes(int tokens) const override;
  void Forward(ForwardContext& context, const AttentionRows& rows,
               const TensorView& x) const override;
  int group() const override { return group_; }
  bool Describe(DecoderLayerWeights&) const override { return false; }

 private:
  void DeclareAbsorbed(ParamBuilder& builder, const QuantScheme& scheme, const std::string& name);
  Status BindAbsorbed(BindContext& context, const TensorView& both);
  /// Width of what `down_` makes for the queries.
  int64_t QueryWidth() const {
    return mla_.q_lora_rank > 0 ? mla_.q_lora_rank : int64_t{heads_} * mla_.qk_head_dim();
  }
  int64_t CachedWidth() const { return mla_.qk_rope_head_dim + mla_.kv_lora_rank; }

  MlaConfig mla_;
  int heads_;
  DType dtype_;
  const RotaryEmbedding& rotary_;
  int group_;
  int layer_;
  Linear down_;                      ///< to [queries, or what they are made of | latent | key]
  std::unique_ptr<RmsNorm> q_norm_;  ///< both null without q_lora_rank
  std::unique_ptr<Linear> q_up_;
  RmsNorm latent_norm_;
  Linear absorbed_key_;    ///< W_uk^T of each head, [heads * kv_lora_rank, qk_nope_head_dim]
  Linear absorbed_value_;  ///< W_uv of each head, [heads * v_head_dim, kv_lora_rank]
  Linear o_;
};

}  // namespace gale
