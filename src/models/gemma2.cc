// Gemma 2 (arXiv:2408.00118): norms on both sides of attention and feed-forward, a window in every
// second layer, soft caps of scores and logits, embeddings scaled by the root of their size.
#include <cmath>

#include "models/gemma.h"
#include "models/model_registry.h"
#include "tensor/bf16.h"

namespace gale {

DecoderTraits GemmaTraits(const HfConfig& config, DType dtype) {
  DecoderTraits traits;
  traits.norms = {.attention = "input_layernorm",
                  .after_attention = "post_attention_layernorm",
                  .feed_forward = "pre_feedforward_layernorm",
                  .after_feed_forward = "post_feedforward_layernorm"};
  traits.norm_weight_offset = 1;
  // The factor is rounded to the activations' dtype: models are trained with it.
  const float scale = std::sqrt(static_cast<float>(config.hidden_size));
  traits.embedding_scale = dtype == DType::kBf16 ? ToFloat(ToBf16(scale)) : scale;
  traits.qkv_bias = config.attention_bias;
  traits.o_bias = config.attention_bias;
  return traits;
}

namespace {

std::unique_ptr<Model> MakeGemma2(const HfConfig& config, const QuantScheme& scheme,
                                  ParamBuilder& builder) {
  DecoderTraits traits = GemmaTraits(config, builder.dtype());
  traits.windows = LayerWindows(config, [](int layer) { return layer % 2 == 0; });
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Gemma2ForCausalLM", MakeGemma2);

}  // namespace
}  // namespace gale
