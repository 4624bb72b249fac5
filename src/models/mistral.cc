// Mistral 7B and what was saved as MistralForCausalLM since (arXiv:2310.06825): the Llama decoder,
// where config.json says so with a window in every layer.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeMistral(const HfConfig& config, const QuantScheme& scheme,
                                   ParamBuilder& builder) {
  DecoderTraits traits;
  traits.windows = LayerWindows(config, [](int) { return true; });
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("MistralForCausalLM", MakeMistral);

}  // namespace
}  // namespace gale
