#include "models/gemma.h"

#include <cmath>

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

}  // namespace gale
