// Qwen3's mixtures of experts (arXiv:2505.09388): the Qwen3 decoder with experts in most layers.
#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeQwen3Moe(const HfConfig& config, const QuantScheme& scheme,
                                    ParamBuilder& builder) {
  const FusedMoeConfig moe = {.hidden = config.hidden_size,
                              .moe = config.moe,
                              .renormalize = config.moe.norm_topk_prob.value_or(false)};
  DecoderTraits traits;
  traits.qkv_bias = config.attention_bias;
  traits.o_bias = config.attention_bias;
  traits.qk_norm = true;
  traits.windows = QwenWindows(config);
  traits.feed_forward = SparseLayers(config, moe);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("Qwen3MoeForCausalLM", MakeQwen3Moe);

}  // namespace
}  // namespace gale
