// Mixtral (arXiv:2401.04088): the Mistral decoder with experts for its feed-forward layers.
#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeMixtral(const HfConfig& config, const QuantScheme& scheme,
                                   ParamBuilder& builder) {
  const FusedMoeConfig moe = {.hidden = config.hidden_size,
                              .moe = config.moe,
                              .renormalize = true,
                              .names = {.gate = ".w1", .up = ".w3", .down = ".w2"}};
  DecoderTraits traits;
  traits.windows = LayerWindows(config, [](int) { return true; });
  traits.feed_forward = SparseLayers(config, moe, "block_sparse_moe");
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("MixtralForCausalLM", MakeMixtral);

}  // namespace
}  // namespace gale
