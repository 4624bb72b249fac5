#include "models/decoder_layer.h"

#include <algorithm>

#include <fmt/format.h>

#include "nn/attention.h"
#include "nn/mla_attention.h"
#include "nn/mlp.h"

namespace gale {
namespace {

AttentionConfig MakeAttentionConfig(const HfConfig& config, const DecoderTraits& traits) {
  return {.hidden = config.hidden_size,
          .q_heads = config.num_heads,
          .kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .qkv_bias = traits.qkv_bias,
          .o_bias = traits.o_bias,
          .fused_qkv = traits.fused_qkv,
          .qk_norm = traits.qk_norm,
          .sinks = traits.sinks,
          .interleaved_rope = traits.interleaved_rope,
          .norm_eps = static_cast<float>(config.rms_norm_eps),
          .norm_weight_offset = traits.norm_weight_offset};
}

std::string LayerName(int index, const char* part) {
  return fmt::format("model.layers.{}.{}", index, part);
}

std::unique_ptr<SelfAttention> MakeAttention(ParamBuilder& builder, const QuantScheme& scheme,
                                             const HfConfig& config, const DecoderTraits& traits,
                                             const RotaryEmbedding& rotary,
                                             const LayerPlace& place) {
  const std::string name = LayerName(place.index, "self_attn");
  if (config.mla.kv_lora_rank > 0) {
    return std::make_unique<MlaAttention>(builder, scheme, config.mla, config.hidden_size,
                                          config.num_heads, rotary, name, place.group,
                                          place.index_in_group);
  }
  return std::make_unique<Attention>(builder, scheme, MakeAttentionConfig(config, traits), rotary,
                                     name, place.group, place.index_in_group);
}

/// Null when `part` is empty.
std::unique_ptr<RmsNorm> MakeNorm(ParamBuilder& builder, const HfConfig& config,
                                  const DecoderTraits& traits, int index, const char* part) {
  if (*part == '\0') return nullptr;
  return std::make_unique<RmsNorm>(builder, LayerName(index, part), config.hidden_size,
                                   static_cast<float>(config.rms_norm_eps),
                                   traits.norm_weight_offset);
}

std::unique_ptr<FeedForward> MakeLayersFeedForward(ParamBuilder& builder, const QuantScheme& scheme,
                                                   const HfConfig& config,
                                                   const DecoderTraits& traits, int index) {
  if (traits.feed_forward) return traits.feed_forward(builder, scheme, index);
  const MlpConfig mlp = {.hidden = config.hidden_size,
                         .intermediate = config.intermediate_size,
                         .bias = traits.mlp_bias,
                         .fused_gate_up = traits.fused_gate_up,
                         .activation = config.activation};
  return std::make_unique<Mlp>(builder, scheme, mlp, LayerName(index, "mlp"));
}

}  // namespace

DecoderLayer::DecoderLayer(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
                           const DecoderTraits& traits, const RotaryEmbedding& rotary,
                           const LayerPlace& place)
    : is_first_(place.group == 0 && place.index_in_group == 0),
      has_plain_norms_(traits.norm_weight_offset == 0),
      attention_norm_(builder, LayerName(place.index, traits.norms.attention), config.hidden_size,
                      static_cast<float>(config.rms_norm_eps), traits.norm_weight_offset),
      attention_(MakeAttention(builder, scheme, config, traits, rotary, place)),
      after_attention_(
          MakeNorm(builder, config, traits, place.index, traits.norms.after_attention)),
      feed_forward_norm_(builder, LayerName(place.index, traits.norms.feed_forward),
                         config.hidden_size, static_cast<float>(config.rms_norm_eps),
                         traits.norm_weight_offset),
      feed_forward_(MakeLayersFeedForward(builder, scheme, config, traits, place.index)),
      after_feed_forward_(
          MakeNorm(builder, config, traits, place.index, traits.norms.after_feed_forward)) {}

size_t DecoderLayer::ScratchBytes(int tokens) const {
  return std::max(attention_->ScratchBytes(tokens), feed_forward_->ScratchBytes(tokens));
}

void DecoderLayer::Forward(ForwardContext& context, const AttentionRows& rows,
                           const TensorView& residual, const TensorView& x,
                           const TensorView& input) const {
  if (is_first_) {
    attention_norm_.Forward(context, residual, {}, x);
  } else {
    attention_norm_.Forward(context, x, residual, x);
  }
  if (input) {
    context.backend->Copy(*context.stream, input.data, residual.data, input.Bytes());
  }
  attention_->Forward(context, rows, x);
  if (after_attention_) after_attention_->Forward(context, x, {}, x);
  feed_forward_norm_.Forward(context, x, residual, x);
  feed_forward_->Forward(context, x, x);
  if (after_feed_forward_) after_feed_forward_->Forward(context, x, {}, x);
}

bool DecoderLayer::Describe(DecoderLayerWeights& weights) const {
  if (!has_plain_norms_ || after_attention_ || after_feed_forward_) return false;
  weights.input_norm = attention_norm_.weight();
  weights.mlp_norm = feed_forward_norm_.weight();
  return attention_->Describe(weights) && feed_forward_->Describe(weights);
}

}  // namespace gale
