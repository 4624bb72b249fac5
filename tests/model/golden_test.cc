// Every checkpoint of tests/data/models against transformers' logits and greedy ids, and against
// itself when the same tokens come in another batch, other chunks or other blocks.
#include "support/golden.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/model_harness.h"

namespace gale {
namespace {

/// In f32 both sides differ by the order of their sums only: some 100 products of relative error
/// 2^-24, over a depth of 3 layers, and softmax scores of a few units. Measured: 3e-6.
constexpr double kF32Tolerance = 1e-4;

/// In bf16 each value written between two ops is off by up to u = 2^-8 of itself. A layer writes 11
/// times on its way (norm, qkv, rope, attention, o, residual; norm, gate and up, product, down,
/// residual), the head reads one more norm. The errors are independent, so their squares add:
/// u * sqrt(11 * layers + 1). An error of q or k shifts a score by its share of that score, and so
/// is multiplied by the scores' deviation, here up to 4. Measured: 0.049 of 0.091 allowed.
double Bf16Tolerance(int layers) { return 4 * std::ldexp(1.0, -8) * std::sqrt(11.0 * layers + 1); }

class ModelGoldenTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<ModelHarness> Load(ModelDType dtype, bool permute_blocks = false,
                                     Numerics numerics = Numerics::kBatchInvariant) {
    HarnessOptions options;
    options.load.model = GoldenFolder(GetParam());
    options.load.dtype = dtype;
    options.load.numerics = numerics;
    options.permute_blocks = permute_blocks;
    auto harness = ModelHarness::Load(*backend_, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return std::move(*harness);
  }

  /// Logits of the longest prompt, each chunk a step of its own.
  std::vector<float> RunInChunks(ModelHarness& harness, int chunk) {
    harness.Reset();
    std::vector<float> logits;
    const std::vector<TokenId>& prompt = goldens_.back().prompt;
    for (auto begin = prompt.begin(); begin != prompt.end();) {
      const auto end = begin + std::min<ptrdiff_t>(chunk, prompt.end() - begin);
      const auto part = harness.Step({{1, {begin, end}}});
      logits.insert(logits.end(), part.begin(), part.end());
      begin = end;
    }
    return logits;
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::vector<GoldenPrompt> goldens_ = ReadGoldens(GoldenFolder(GetParam()));
};

TEST_P(ModelGoldenTest, F32LogitsEqualTransformers) {
  for (const Numerics numerics : {Numerics::kBatchInvariant, Numerics::kFast}) {
    const auto harness = Load(ModelDType::kF32, false, numerics);
    for (const GoldenPrompt& golden : goldens_) {
      harness->Reset();
      const auto logits = harness->Step({{0, golden.prompt}});
      EXPECT_LE(RelativeError(logits, golden.logits), kF32Tolerance) << golden.prompt.size();
    }
  }
}

TEST_P(ModelGoldenTest, Bf16LogitsAreWithinRoundingOfTransformersInF32) {
  const auto harness = Load(ModelDType::kBf16);
  const double tolerance = Bf16Tolerance(harness->loaded().config.num_layers);
  for (const GoldenPrompt& golden : goldens_) {
    harness->Reset();
    const auto logits = harness->Step({{0, golden.prompt}});
    EXPECT_LE(RelativeError(logits, golden.logits), tolerance) << golden.prompt.size();
  }
}

TEST_P(ModelGoldenTest, GreedyIdsEqualTransformers) {
  const auto harness = Load(ModelDType::kF32);
  for (const GoldenPrompt& golden : goldens_) {
    EXPECT_EQ(harness->Greedy(golden.prompt, golden.greedy.size()), golden.greedy);
  }
}

/// transformers scales a dynamic rope for the length of each prompt; so does a model that is loaded
/// for that length.
TEST_P(ModelGoldenTest, RopeScaledForThePromptsLengthEqualsTransformers) {
  if (goldens_[0].own_length_logits.empty()) GTEST_SKIP() << "no dynamic rope";
  std::vector<float> longest;
  for (const GoldenPrompt& golden : goldens_) {
    HarnessOptions options;
    options.load.model = GoldenFolder(GetParam());
    options.load.dtype = ModelDType::kF32;
    options.load.max_model_len = static_cast<int>(golden.prompt.size());
    const auto harness = ModelHarness::Load(*backend_, options);
    ASSERT_TRUE(harness) << harness.error().message;
    longest = (*harness)->Step({{0, golden.prompt}});
    EXPECT_LE(RelativeError(longest, golden.own_length_logits), kF32Tolerance)
        << golden.prompt.size();
  }
  EXPECT_GT(RelativeError(longest, goldens_.back().logits), kF32Tolerance) << "nothing is scaled";
}

TEST_P(ModelGoldenTest, BatchNeighboursChangeNothing) {
  for (const ModelDType dtype : {ModelDType::kF32, ModelDType::kBf16}) {
    const auto harness = Load(dtype);
    std::vector<std::vector<float>> alone;
    for (const GoldenPrompt& golden : goldens_) {
      harness->Reset();
      alone.push_back(harness->Step({{0, golden.prompt}}));
    }
    // A step that mixes a decode, the end of a prompt and two whole prompts.
    harness->Reset();
    const std::vector<TokenId>& longest = goldens_[2].prompt;
    const auto split = longest.end() - 5;
    harness->Step({{0, {longest.begin(), longest.end() - 1}}, {1, {longest.begin(), split}}});
    const auto mixed = harness->Step({{0, {longest.back()}},
                                      {2, goldens_[1].prompt},
                                      {1, {split, longest.end()}},
                                      {3, goldens_[0].prompt}});
    std::vector<float> expected(alone[2].end() - harness->vocab_size(), alone[2].end());
    expected.insert(expected.end(), alone[1].begin(), alone[1].end());
    expected.insert(expected.end(), alone[2].end() - 5 * harness->vocab_size(), alone[2].end());
    expected.insert(expected.end(), alone[0].begin(), alone[0].end());
    EXPECT_EQ(mixed, expected);
  }
}

TEST_P(ModelGoldenTest, ChunksAndBlocksChangeNothing) {
  for (const ModelDType dtype : {ModelDType::kF32, ModelDType::kBf16}) {
    const auto dense = Load(dtype);
    const auto scattered = Load(dtype, /*permute_blocks=*/true);
    const auto whole = RunInChunks(*dense, 1000);
    for (const int chunk : {1, 3, 16, 17}) {
      EXPECT_EQ(RunInChunks(*dense, chunk), whole) << chunk;
      EXPECT_EQ(RunInChunks(*scattered, chunk), whole) << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ModelGoldenTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gale
