// GGUF files against the checkpoints that they were made from: the same logits and greedy ids.
#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/golden.h"
#include "support/model_harness.h"

namespace gale {
namespace {

struct Case {
  const char* checkpoint;
  const char* file;
  /// Of logits in f32. A file's factors of llama 3's rope are rounded to f32, which turns angles by
  /// up to 2^-24 of themselves, here under 40; all else is the same numbers in the same order.
  double tolerance = 0;
};
constexpr Case kCases[] = {
    {"llama_bias", "llama_bias.gguf"},
    {"llama_gqa5", "llama_gqa5.gguf", 1e-4},
    {"qwen2_gqa3", "qwen2_gqa3.gguf"},
    {"qwen3_tied", "qwen3_tied.gguf"},
    {"qwen3_gqa5", "qwen3_gqa5-00001-of-00002.gguf"},
};

std::unique_ptr<ModelHarness> Load(Backend& backend, const std::string& model, ModelDType dtype) {
  HarnessOptions options;
  options.load.model = model;
  options.load.dtype = dtype;
  options.load.numerics = Numerics::kBatchInvariant;
  auto harness = ModelHarness::Load(backend, options);
  EXPECT_TRUE(harness) << harness.error().message;
  return std::move(*harness);
}

class GgufTest : public testing::TestWithParam<Case> {
 protected:
  std::string File() const {
    return std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/" + GetParam().file;
  }
  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::string folder_ = GoldenFolder(GetParam().checkpoint);
};

TEST_P(GgufTest, LogitsEqualThoseOfTheCheckpoint) {
  const auto original = Load(*backend_, folder_, ModelDType::kF32);
  const auto gguf = Load(*backend_, File(), ModelDType::kF32);
  for (const GoldenPrompt& golden : ReadGoldens(folder_)) {
    original->Reset();
    gguf->Reset();
    const auto expected = original->Step({{0, golden.prompt}});
    EXPECT_LE(RelativeError(gguf->Step({{0, golden.prompt}}), expected), GetParam().tolerance);
  }
}

TEST_P(GgufTest, GreedyIdsEqualTransformers) {
  const auto harness = Load(*backend_, File(), ModelDType::kF32);
  for (const GoldenPrompt& golden : ReadGoldens(folder_)) {
    EXPECT_EQ(harness->Greedy(golden.prompt, golden.greedy.size()), golden.greedy);
  }
}

TEST_P(GgufTest, RunsInTheDtypeOfTheCheckpoint) {
  const auto original = Load(*backend_, folder_, ModelDType::kAuto);
  const auto gguf = Load(*backend_, File(), ModelDType::kAuto);
  EXPECT_EQ(gguf->loaded().config.dtype, original->loaded().config.dtype);
  EXPECT_EQ(gguf->loaded().generation.eos_token_ids, original->loaded().generation.eos_token_ids);
}

INSTANTIATE_TEST_SUITE_P(All, GgufTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.checkpoint); });

}  // namespace
}  // namespace gale
