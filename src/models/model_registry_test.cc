#include "models/model_registry.h"

#include <gtest/gtest.h>

#include "gale/model_info.h"
#include "models/model_source.h"
#include "quant/quant_scheme.h"
#include "weights/hf_config.h"
#include "weights/presets.h"

namespace gale {
namespace {

// The full lists: a registration that the linker drops, or one too many, shows here.
TEST(ModelRegistry, HoldsEveryArchitecture) {
  EXPECT_EQ(SupportedArchitectures(),
            (std::vector<std::string>{"Gemma2ForCausalLM", "Gemma3ForCausalLM", "Glm4ForCausalLM",
                                      "GlmForCausalLM", "LlamaForCausalLM", "MistralForCausalLM",
                                      "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}));
  EXPECT_EQ(QuantSchemeNames(), std::vector<std::string>{"none"});
}

TEST(ModelRegistry, NamesWhatItKnows) {
  const auto factory = FindModel("Qwen3MoeForCausalLM");
  ASSERT_FALSE(factory);
  EXPECT_EQ(factory.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(factory.error().message,
            "Qwen3MoeForCausalLM is not supported yet; this build runs Gemma2ForCausalLM, "
            "Gemma3ForCausalLM, Glm4ForCausalLM, GlmForCausalLM, LlamaForCausalLM, "
            "MistralForCausalLM, Phi3ForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM");
  EXPECT_EQ(FindQuantScheme("awq").error().message,
            "quantization method \"awq\" is not supported; this build knows none (\"none\": plain "
            "weights)");
}

TEST(ModelRegistryDeathTest, DuplicatesAreFatal) {
  EXPECT_DEATH(RegisterModel("LlamaForCausalLM", nullptr), "two models of one architecture");
  EXPECT_DEATH(RegisterQuantScheme(*FindQuantScheme("none")), "two quantization schemes");
}

/// What `gale info` counts from the shapes is what the model declares.
TEST(ModelRegistry, DeclaredParametersAddUpToTheCount) {
  int checked = 0;
  for (const std::string& preset : PresetNames()) {
    const auto source = ReadModelSource(preset);
    ASSERT_TRUE(source) << source.error().message;
    const auto factory = FindModel(source->config.architecture);
    if (!factory) continue;
    ParamBuilder builder(DType::kBf16, Numerics::kFast);
    const auto model = (*factory)(source->config, **FindQuantScheme("none"), builder);
    EXPECT_EQ(builder.NumParameters(), ReadModelInfo(preset)->num_parameters) << preset;
    ++checked;
  }
  EXPECT_EQ(checked, 5);
}

}  // namespace
}  // namespace gale
