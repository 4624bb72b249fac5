// GLM-4 as its first release (GlmForCausalLM, arXiv:2406.12793) and with norms on both sides
// (Glm4ForCausalLM, the 0414 models): half of each head is rotated, in neighbouring pairs.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

DecoderTraits GlmTraits(const HfConfig& config) {
  return {.qkv_bias = config.attention_bias, .fused_gate_up = true, .interleaved_rope = true};
}

std::unique_ptr<Model> MakeGlm(const HfConfig& config, const QuantScheme& scheme,
                               ParamBuilder& builder) {
  return std::make_unique<Decoder>(builder, scheme, config, GlmTraits(config));
}

std::unique_ptr<Model> MakeGlm4(const HfConfig& config, const QuantScheme& scheme,
                                ParamBuilder& builder) {
  DecoderTraits traits = GlmTraits(config);
  traits.norms = {.attention = "input_layernorm",
                  .after_attention = "post_self_attn_layernorm",
                  .feed_forward = "post_attention_layernorm",
                  .after_feed_forward = "post_mlp_layernorm"};
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool glm_registered = RegisterModel("GlmForCausalLM", MakeGlm);
const bool glm4_registered = RegisterModel("Glm4ForCausalLM", MakeGlm4);

}  // namespace
}  // namespace gale
