// Gemma 3, text (arXiv:2503.19786): Gemma 2 without caps, with norms of queries and keys, and with
// a window and a rope of their own in all layers but every sixth. Of models of text and images the
// language model is taken.
#include "models/gemma.h"
#include "models/model_registry.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeGemma3(const HfConfig& config, const QuantScheme& scheme,
                                  ParamBuilder& builder) {
  DecoderTraits traits = GemmaTraits(config, builder.dtype());
  traits.qk_norm = true;
  const int pattern = config.sliding_window_pattern;
  traits.windows = LayerWindows(config, [=](int layer) { return (layer + 1) % pattern != 0; });
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Gemma3ForCausalLM", MakeGemma3);

}  // namespace
}  // namespace gale
