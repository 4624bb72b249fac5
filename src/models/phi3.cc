// Phi-3, Phi-3.5 and Phi-4 (arXiv:2404.14219, arXiv:2412.08905): the Llama decoder with queries,
// keys and values in one tensor and gates and ups in another.
#include "models/decoder.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakePhi3(const HfConfig& config, const QuantScheme& scheme,
                                ParamBuilder& builder) {
  DecoderTraits traits = {.fused_qkv = true, .fused_gate_up = true};
  traits.windows = LayerWindows(config, [](int) { return true; });
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Phi3ForCausalLM", MakePhi3);

}  // namespace
}  // namespace gale
