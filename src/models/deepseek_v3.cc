// DeepSeek-V3 and R1 (arXiv:2412.19437): DeepSeek-V2 whose router scores each expert for itself and
// ranks experts by scores that a bias of each corrects, which keeps them equally busy.
#include "models/deepseek_v3.h"

#include <fmt/format.h>

#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {

DecoderTraits DeepseekV3Traits(const HfConfig& config) {
  const FusedMoeConfig moe = {.hidden = config.hidden_size,
                              .moe = config.moe,
                              .score = config.moe.score.value_or(RouterScore::kSigmoid),
                              .renormalize = config.moe.norm_topk_prob.value_or(true),
                              .correction = true,
                              .group_top = 2,
                              .names = {.shared = ".shared_experts"}};
  DecoderTraits traits;
  traits.feed_forward = SparseLayers(config, moe);
  return traits;
}

namespace {

std::unique_ptr<Model> MakeDeepseekV3(const HfConfig& config, const QuantScheme& scheme,
                                      ParamBuilder& builder) {
  // The layer that predicts the token after the next: deepseek_mtp.cc.
  builder.IgnorePrefix(fmt::format("model.layers.{}.", config.num_layers));
  return std::make_unique<Decoder>(builder, scheme, config, DeepseekV3Traits(config));
}

const bool registered = RegisterModel("DeepseekV3ForCausalLM", MakeDeepseekV3);

}  // namespace
}  // namespace gale
