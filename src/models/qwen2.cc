// Qwen2 and Qwen2.5, dense (arXiv:2407.10671, arXiv:2412.15115): the Llama decoder with biases on
// queries, keys and values.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeQwen2(const HfConfig& config, const QuantScheme& scheme,
                                 ParamBuilder& builder) {
  DecoderTraits traits = {.qkv_bias = true};
  traits.windows = QwenWindows(config);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Qwen2ForCausalLM", MakeQwen2);

}  // namespace
}  // namespace gale
