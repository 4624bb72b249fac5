#include "models/decoder.h"

#include <cmath>

#include <fmt/format.h>

namespace gale {
namespace {

AttentionConfig MakeAttentionConfig(const HfConfig& config, const DecoderTraits& traits) {
  return {.hidden = config.hidden_size,
          .q_heads = config.num_heads,
          .kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .qkv_bias = traits.qkv_bias,
          .o_bias = traits.o_bias,
          .qk_norm = traits.qk_norm,
          .norm_eps = static_cast<float>(config.rms_norm_eps)};
}

std::string LayerName(int index, const char* part) {
  return fmt::format("model.layers.{}.{}", index, part);
}

constexpr int kGroup = 0;  // every layer sees the whole past: one attention group

}  // namespace

Decoder::Layer::Layer(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
                      const DecoderTraits& traits, int index)
    : input_norm(builder, LayerName(index, "input_layernorm"), config.hidden_size,
                 static_cast<float>(config.rms_norm_eps)),
      attention(builder, scheme, MakeAttentionConfig(config, traits), LayerName(index, "self_attn"),
                kGroup, index),
      mlp_norm(builder, LayerName(index, "post_attention_layernorm"), config.hidden_size,
               static_cast<float>(config.rms_norm_eps)),
      mlp(builder, scheme, config.hidden_size, config.intermediate_size, traits.mlp_bias,
          LayerName(index, "mlp")) {}

Decoder::Decoder(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
                 const DecoderTraits& traits)
    : config_(config),
      traits_(traits),
      dtype_(builder.dtype()),
      numerics_(builder.numerics()),
      store_(builder.store()),
      embedding_(builder, scheme,
                 {config.vocab_size, config.hidden_size, config.tie_word_embeddings}),
      rotary_(builder, config.rope, config.head_dim),
      final_norm_(builder, "model.norm", config.hidden_size,
                  static_cast<float>(config.rms_norm_eps)) {
  for (int i = 0; i < config.num_layers; ++i) {
    layers_.push_back(std::make_unique<Layer>(builder, scheme, config, traits, i));
  }
}

std::vector<AttentionGroup> Decoder::attention_groups() const {
  AttentionSpec spec;
  spec.layers = config_.num_layers;
  spec.q_heads = config_.num_heads;
  spec.kv_heads = config_.num_kv_heads;
  spec.head_dim = config_.head_dim;
  spec.scale = 1 / std::sqrt(static_cast<float>(config_.head_dim));
  spec.dtype = dtype_;
  spec.kv = dtype_;
  spec.numerics = numerics_;
  return {{spec}};
}

size_t Decoder::ScratchBytes(int tokens) const {
  const size_t heads = static_cast<size_t>(config_.num_heads) * config_.head_dim;
  const size_t kv_heads = static_cast<size_t>(config_.num_kv_heads) * config_.head_dim;
  const size_t row_elements = config_.hidden_size + (heads + 2 * kv_heads) + heads +
                              3 * static_cast<size_t>(config_.intermediate_size);
  constexpr size_t kBuffers = 5;
  return tokens * row_elements * DTypeBytes(dtype_) + kBuffers * ScratchArena::kAlignment;
}

void Decoder::Embed(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) {
  embedding_.Embed(context, batch.token_ids, batch.last_tokens, hidden);
}

void Decoder::Forward(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) {
  const int64_t tokens = hidden.dim(0);
  const int64_t heads = config_.num_heads;
  const int64_t qkv_heads = heads + 2 * int64_t{config_.num_kv_heads};
  ScratchArena& scratch = *context.scratch;
  const TensorView x = scratch.Take(dtype_, {tokens, config_.hidden_size});
  const AttentionIo attention = {
      .positions = batch.positions,
      .slot_mapping = batch.attention[kGroup].slot_mapping,
      .qkv = scratch.Take(dtype_, {tokens, qkv_heads * config_.head_dim}),
      .heads = scratch.Take(dtype_, {tokens, heads, config_.head_dim})};
  const MlpIo mlp = {
      .gate_up = scratch.Take(dtype_, {tokens, 2 * int64_t{config_.intermediate_size}}),
      .product = scratch.Take(dtype_, {tokens, config_.intermediate_size})};

  // `hidden` carries the residual; each norm adds the layer output x to it first.
  layers_.front()->input_norm.Forward(context, hidden, {}, x);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = *layers_[i];
    if (i > 0) layer.input_norm.Forward(context, x, hidden, x);
    layer.attention.Forward(context, rotary_, attention, x);
    layer.mlp_norm.Forward(context, x, hidden, x);
    layer.mlp.Forward(context, mlp, x);
  }
  final_norm_.Forward(context, x, hidden, hidden);
}

std::optional<DecoderDescription> Decoder::Describe() const {
  if (traits_.o_bias || traits_.mlp_bias) return std::nullopt;
  DecoderDescription decoder;
  decoder.attention = attention_groups()[kGroup].spec;
  decoder.hidden = config_.hidden_size;
  decoder.intermediate = config_.intermediate_size;
  decoder.vocab = config_.vocab_size;
  decoder.norm_eps = final_norm_.eps();
  embedding_.Describe(decoder);
  decoder.final_norm = final_norm_.weight();
  decoder.inv_freq = rotary_.inv_freq();
  for (const auto& layer : layers_) {
    DecoderLayerWeights& weights = decoder.layers.emplace_back();
    weights.input_norm = layer->input_norm.weight();
    layer->attention.Describe(weights);
    weights.mlp_norm = layer->mlp_norm.weight();
    layer->mlp.Describe(weights);
  }
  return decoder;
}

void Decoder::ComputeLogits(ForwardContext& context, TensorView rows, TensorView logits) {
  embedding_.Logits(context, rows, logits);
}

}  // namespace gale
