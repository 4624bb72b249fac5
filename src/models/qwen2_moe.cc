// Qwen1.5's and Qwen2's mixtures of experts (arXiv:2407.10671): the Qwen2 decoder whose experts
// stand beside a network that every token has, weighed by a gate of its own.
#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeQwen2Moe(const HfConfig& config, const QuantScheme& scheme,
                                    ParamBuilder& builder) {
  const FusedMoeConfig moe = {
      .hidden = config.hidden_size,
      .moe = config.moe,
      .renormalize = config.moe.norm_topk_prob.value_or(false),
      .names = {.shared = ".shared_expert", .shared_gate = ".shared_expert_gate"}};
  DecoderTraits traits;
  traits.qkv_bias = true;
  traits.windows = QwenWindows(config);
  traits.feed_forward = SparseLayers(config, moe);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Qwen2MoeForCausalLM", MakeQwen2Moe);

}  // namespace
}  // namespace gale
