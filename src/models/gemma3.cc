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
  traits.windows =
      LayerWindows(config, [=](int layer) { return pattern == 0 || (layer + 1) % pattern != 0; });
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

/// The language model of a checkpoint that also holds an encoder of images.
std::unique_ptr<Model> MakeGemma3Text(const HfConfig& config, const QuantScheme& scheme,
                                      ParamBuilder& builder) {
  builder.AddAlias("model.", "language_model.model.");
  builder.AddAlias("model.", "model.language_model.");
  builder.AddAlias("lm_head.", "language_model.lm_head.");
  for (const char* part : {"vision_tower.", "multi_modal_projector."}) {
    builder.IgnorePrefix(part);
    builder.IgnorePrefix(std::string("model.") + part);
  }
  return MakeGemma3(config, scheme, builder);
}

const bool registered = RegisterModel("Gemma3ForCausalLM", MakeGemma3);
const bool text_registered = RegisterModel("Gemma3ForConditionalGeneration", MakeGemma3Text);

}  // namespace
}  // namespace gale
