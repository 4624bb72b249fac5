#include "models/model_registry.h"

#include <gtest/gtest.h>

#include "gale/model_info.h"
#include "quant/quant_scheme.h"

namespace gale {
namespace {

// The full lists: a registration that the linker drops, or one too many, shows here.
TEST(ModelRegistry, HoldsEveryArchitecture) {
  EXPECT_EQ(SupportedArchitectures(),
            (std::vector<std::string>{
                "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Gemma2ForCausalLM",
                "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "Glm4ForCausalLM",
                "GlmForCausalLM", "GptOssForCausalLM", "LlamaForCausalLM", "MistralForCausalLM",
                "MixtralForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM",
                "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"}));
  EXPECT_EQ(QuantSchemeNames(),
            (std::vector<std::string>{"awq", "bitsandbytes", "compressed-tensors", "fp8", "gguf",
                                      "gptq", "mxfp4", "none"}));
}

TEST(ModelRegistry, NamesWhatItKnows) {
  const auto factory = FindModel("GPT2LMHeadModel");
  ASSERT_FALSE(factory);
  EXPECT_EQ(factory.error().code, ErrorCode::kUnsupported);
  EXPECT_TRUE(factory.error().message.starts_with(
      "GPT2LMHeadModel is not supported yet; this build runs DeepseekV2ForCausalLM, "
      "DeepseekV3ForCausalLM, "))
      << factory.error().message;
  HfConfig config;
  config.quant_method = "quip";
  config.quant.source = "config.json";
  EXPECT_EQ(
      MakeQuantScheme(config, nullptr).error().message,
      "config.json: quantization method \"quip\" is not supported; this build knows awq, "
      "bitsandbytes, compressed-tensors, fp8, gguf, gptq, mxfp4, none (\"none\": plain weights)");
}

TEST(ModelRegistryDeathTest, DuplicatesAreFatal) {
  EXPECT_DEATH(RegisterModel("LlamaForCausalLM", nullptr), "two models of one architecture");
  EXPECT_DEATH(RegisterQuantScheme("none", nullptr), "two quantization schemes");
}

}  // namespace
}  // namespace gale
