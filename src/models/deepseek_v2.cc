// DeepSeek-V2 (arXiv:2405.04434): latent attention; after the first layers, experts picked from the
// best groups beside experts that every token has.
#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeDeepseekV2(const HfConfig& config, const QuantScheme& scheme,
                                      ParamBuilder& builder) {
  const FusedMoeConfig moe = {.hidden = config.hidden_size,
                              .moe = config.moe,
                              .score = config.moe.score.value_or(RouterScore::kSoftmax),
                              .renormalize = config.moe.norm_topk_prob.value_or(false),
                              .names = {.shared = ".shared_experts"}};
  DecoderTraits traits;
  traits.feed_forward = SparseLayers(config, moe);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("DeepseekV2ForCausalLM", MakeDeepseekV2);

}  // namespace
}  // namespace gale
