// Llama 1 to 3 (arXiv:2302.13971, arXiv:2407.21783) and everything saved as LlamaForCausalLM.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeLlama(const HfConfig& config, const QuantScheme& scheme,
                                 ParamBuilder& builder) {
  const DecoderTraits traits = {.qkv_bias = config.attention_bias,
                                .o_bias = config.attention_bias,
                                .mlp_bias = config.mlp_bias};
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("LlamaForCausalLM", MakeLlama);

}  // namespace
}  // namespace gale
