// gpt-oss (arXiv:2508.10925): experts with biases and clamped gates in every layer; heads with a
// sink; every other layer has a window. Checkpoints in bf16 and GGUF files; checkpoints in MXFP4
// name that as their quantization method.
#include "models/decoder.h"
#include "models/model_registry.h"
#include "models/sparse_layers.h"

namespace gale {
namespace {

std::unique_ptr<Model> MakeGptOss(const HfConfig& config, const QuantScheme& scheme,
                                  ParamBuilder& builder) {
  const FusedMoeConfig moe = {.hidden = config.hidden_size,
                              .moe = config.moe,
                              .renormalize = true,  // a softmax over the experts picked
                              .router_bias = true,
                              .expert_bias = true,
                              .stacked_experts = !config.moe.has_separate_experts,
                              .activation = Activation::kClampedSwiglu,
                              .names = {.router = ".router"}};
  DecoderTraits traits;
  traits.qkv_bias = config.attention_bias;
  traits.o_bias = config.attention_bias;
  traits.sinks = true;
  traits.windows = LayerWindows(config, [](int layer) { return layer % 2 == 0; });
  traits.feed_forward = SparseLayers(config, moe);
  return std::make_unique<Decoder>(builder, scheme, config, traits);
}

const bool registered = RegisterModel("GptOssForCausalLM", MakeGptOss);

}  // namespace
}  // namespace gale
