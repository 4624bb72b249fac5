// Plain checkpoints whose linear layers become 8-bit and 4-bit blocks while they load, beside the
// same checkpoints as they are.
#include <array>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/golden.h"
#include "support/model_harness.h"

namespace gale {
namespace {

struct Case {
  LoadQuantization quantize;
  ModelDType dtype;
  const char* checkpoint;
  double error;  ///< of the logits, relative; tiny models with random weights forgive nothing
};

class QuantizeOnLoadTest : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<ModelHarness> Load(LoadQuantization quantize) {
    HarnessOptions options;
    options.load.model = GoldenFolder(GetParam().checkpoint);
    options.load.dtype = GetParam().dtype;
    options.load.quantize = quantize;
    options.load.numerics = Numerics::kBatchInvariant;
    options.load.on_declared = [this](const Model&, const WeightBytes& weights) -> Status {
      planned_ = weights;
      return {};
    };
    auto harness = ModelHarness::Load(*backend_, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return std::move(*harness);
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  WeightBytes planned_;
};

TEST_P(QuantizeOnLoadTest, LogitsAreNearThoseOfThePlainModel) {
  const auto plain = Load(LoadQuantization::kNone);
  const auto blocks = Load(GetParam().quantize);
  const GoldenPrompt golden = ReadGoldens(GoldenFolder(GetParam().checkpoint)).front();
  const auto expected = plain->Step({{0, golden.prompt}});
  const double error = RelativeError(blocks->Step({{0, golden.prompt}}), expected);
  EXPECT_LE(error, GetParam().error);
  EXPECT_GT(error, 0);
}

TEST_P(QuantizeOnLoadTest, TakesTheMemoryThatWasPlanned) {
  if (!backend_->info().is_host_memory) GTEST_SKIP() << "a device rounds up in its own way";
  for (const LoadQuantization quantize : {LoadQuantization::kNone, GetParam().quantize}) {
    const auto harness = Load(quantize);
    const Model& model = *harness->loaded().model;
    EXPECT_EQ(model.mapped_bytes(), planned_.mapped_bytes);
    EXPECT_NEAR(static_cast<double>(model.private_bytes()),
                static_cast<double>(planned_.private_bytes), 4096);  // tables of angles
  }
}

std::string CaseName(const testing::TestParamInfo<Case>& test) {
  constexpr std::array kWords = {"none",       "int8", "int4",     "int8_output",
                                 "int4_group", "fp8",  "fp8_block"};
  return fmt::format("{}_{}_{}", test.param.checkpoint,
                     kWords[static_cast<size_t>(test.param.quantize)],
                     test.param.dtype == ModelDType::kF32 ? "f32" : "bf16");
}

INSTANTIATE_TEST_SUITE_P(
    All, QuantizeOnLoadTest,
    testing::Values(Case{LoadQuantization::kInt8, ModelDType::kF32, "qwen2_tied", 0.05},
                    Case{LoadQuantization::kInt8, ModelDType::kBf16, "qwen2_tied", 0.07},
                    Case{LoadQuantization::kInt4, ModelDType::kF32, "qwen2_tied", 0.6},
                    Case{LoadQuantization::kInt4, ModelDType::kBf16, "qwen2_tied", 0.6},
                    Case{LoadQuantization::kInt8, ModelDType::kBf16, "qwen3_tied", 0.07},
                    Case{LoadQuantization::kInt4, ModelDType::kBf16, "qwen3_moe", 1},
                    Case{LoadQuantization::kInt8Output, ModelDType::kF32, "qwen2_tied", 0.06},
                    Case{LoadQuantization::kInt4Group, ModelDType::kF32, "qwen2_tied", 0.6},
                    Case{LoadQuantization::kFp8, ModelDType::kF32, "qwen3_tied", 0.2},
                    Case{LoadQuantization::kFp8, ModelDType::kBf16, "mixtral", 1},
                    Case{LoadQuantization::kFp8Block, ModelDType::kF32, "llama_gqa5", 0.2}),
    CaseName);

TEST(QuantizeOnLoad, RefusesWhatIsQuantizedAlready) {
  const auto backend = CreateTestBackend();
  const auto loaded =
      LoadModel({.model = std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/qwen2_tied_q4_0.gguf",
                 .quantize = LoadQuantization::kInt8},
                *backend);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(loaded.error().message.find("in the format gguf"), std::string::npos);
}

}  // namespace
}  // namespace gale
