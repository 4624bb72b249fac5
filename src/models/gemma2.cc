// Gemma 2 (arXiv:2408.00118): norms on both sides of attention and feed-forward, a window in every
// second layer, soft caps of scores and logits, embeddings scaled by the root of their size.
#include "models/gemma.h"
#include "models/model_registry.h"

namespace gale {
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
