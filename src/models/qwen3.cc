// Qwen3, dense (arXiv:2505.09388): the Llama decoder with a norm on each query and key head.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeQwen3(const HfConfig& config, const QuantScheme& scheme,
                                 ParamBuilder& builder) {
  DecoderTraits traits = {
      .qkv_bias = config.attention_bias, .o_bias = config.attention_bias, .qk_norm = true};
  traits.windows = QwenWindows(config);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Qwen3ForCausalLM", MakeQwen3);

}  // namespace
}  // namespace gale
