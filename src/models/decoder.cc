#include "models/decoder.h"

#include <algorithm>
#include <cmath>

#include "backend/kv_format.h"
#include "nn/mla_attention.h"

namespace gale {
namespace {

/// Where the input of `layer` is to be kept, which is the output of the layer before; empty:
/// nowhere.
TensorView CapturedInput(const LayerCapture& capture, int layer) {
  const auto found = std::ranges::find(capture.layers, layer - 1);
  if (found == capture.layers.end()) return {};
  const ptrdiff_t index = found - capture.layers.begin();
  const TensorView plane = capture.states.Slice(0, index, index + 1);
  return TensorView(plane.data, plane.dtype, {plane.dim(1), plane.dim(2)});
}

}  // namespace

std::vector<int> LayerWindows(const HfConfig& config,
                              const std::function<bool(int layer)>& has_window) {
  std::vector<int> windows(static_cast<size_t>(config.num_layers), 0);
  if (config.sliding_window >= config.max_position) return windows;
  for (int i = 0; i < config.num_layers; ++i) {
    const auto layer = static_cast<size_t>(i);
    if (config.has_window.empty() ? has_window(i) : config.has_window[layer]) {
      windows[layer] = config.sliding_window;
    }
  }
  return windows;
}

std::vector<int> QwenWindows(const HfConfig& config) {
  if (!config.use_sliding_window) return {};
  return LayerWindows(config, [&](int layer) { return layer >= config.max_window_layers; });
}

Decoder::Decoder(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
                 const DecoderTraits& traits)
    : config_(config),
      has_plain_ends_(traits.embedding_scale == 1 && traits.norm_weight_offset == 0 &&
                      config.final_logit_softcap == 0),
      dtype_(builder.dtype()),
      numerics_(builder.numerics()),
      store_(builder.store()),
      embedding_(builder, scheme,
                 {.vocab = config.vocab_size,
                  .hidden = config.hidden_size,
                  .tied = config.tie_word_embeddings,
                  .scale = traits.embedding_scale}),
      rotary_(builder, config.rope, config.rotary_dim),
      final_norm_(builder, "model.norm", config.hidden_size,
                  static_cast<float>(config.rms_norm_eps), traits.norm_weight_offset) {
  if (config.sliding_rope) {
    sliding_rotary_ =
        std::make_unique<RotaryEmbedding>(builder, *config.sliding_rope, config.rotary_dim);
  }
  for (int i = 0; i < config.num_layers; ++i) {
    const int window = traits.windows.empty() ? 0 : traits.windows[static_cast<size_t>(i)];
    const RotaryEmbedding& rotary = window > 0 && sliding_rotary_ ? *sliding_rotary_ : rotary_;
    layers_.push_back(std::make_unique<DecoderLayer>(builder, scheme, config, traits, rotary,
                                                     AddToGroup(i, window)));
  }
}

LayerPlace Decoder::AddToGroup(int layer, int window) {
  auto group = std::ranges::find_if(
      groups_, [&](const AttentionGroup& known) { return known.spec.window == window; });
  if (group == groups_.end()) group = groups_.insert(group, {MakeSpec(window)});
  return {.index = layer,
          .group = static_cast<int>(group - groups_.begin()),
          .index_in_group = group->spec.layers++};
}

AttentionSpec Decoder::MakeSpec(int window) const {
  if (config_.mla.kv_lora_rank > 0) {
    AttentionSpec spec = MlaAttention::Spec(config_.mla, config_.num_heads, config_.rope);
    spec.dtype = dtype_;
    spec.kv = PlainKv(dtype_);
    spec.numerics = numerics_;
    return spec;
  }
  return {.kind = window > 0 ? KvKind::kSlidingWindow : KvKind::kFull,
          .layers = 0,
          .q_heads = config_.num_heads,
          .kv_heads = config_.num_kv_heads,
          .head_dim = config_.head_dim,
          .window = window,
          .scale = 1 / std::sqrt(static_cast<float>(config_.query_pre_attn_scalar)),
          .softcap = static_cast<float>(config_.attn_logit_softcap),
          .dtype = dtype_,
          .kv = PlainKv(dtype_),
          .numerics = numerics_};
}

size_t Decoder::ScratchBytes(int tokens) const {
  size_t layer_bytes = 0;
  for (const auto& layer : layers_) {
    layer_bytes = std::max(layer_bytes, layer->ScratchBytes(tokens));
  }
  return ScratchArena::Bytes(dtype_, {tokens, config_.hidden_size}) + layer_bytes;
}

void Decoder::Embed(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) {
  embedding_.Embed(context, batch.token_ids, batch.last_tokens, hidden);
}

/// `hidden` carries the residual; each norm adds the output x of what came before to it first.
void Decoder::Forward(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) {
  const TensorView x = context.scratch->Take(dtype_, {hidden.dim(0), config_.hidden_size});
  for (int i = 0; i < config_.num_layers; ++i) {
    const DecoderLayer& layer = *layers_[static_cast<size_t>(i)];
    const AttentionBatch& attention = batch.attention[static_cast<size_t>(layer.group())];
    layer.Forward(context, {batch.positions, attention.slot_mapping}, hidden, x,
                  CapturedInput(batch.capture, i));
  }
  final_norm_.Forward(context, x, hidden, hidden);
}

std::optional<DecoderDescription> Decoder::Describe() const {
  const AttentionSpec& attention = groups_.front().spec;
  if (!has_plain_ends_ || config_.quant_method != "none" || groups_.size() > 1 ||
      attention.window > 0 || attention.softcap > 0 || config_.rotary_dim != config_.head_dim) {
    return std::nullopt;
  }
  DecoderDescription decoder;
  decoder.attention = attention;
  decoder.hidden = config_.hidden_size;
  decoder.intermediate = config_.intermediate_size;
  decoder.vocab = config_.vocab_size;
  decoder.norm_eps = final_norm_.eps();
  embedding_.Describe(decoder);
  decoder.final_norm = final_norm_.weight();
  decoder.inv_freq = rotary_.inv_freq();
  for (const auto& layer : layers_) {
    if (!layer->Describe(decoder.layers.emplace_back())) return std::nullopt;
  }
  return decoder;
}

void Decoder::ComputeLogits(ForwardContext& context, TensorView rows, TensorView logits) {
  embedding_.Logits(context, rows, logits);
  if (config_.final_logit_softcap > 0) {
    context.backend->Softcap(*context.stream,
                             {logits, static_cast<float>(config_.final_logit_softcap)});
  }
}

}  // namespace gale
