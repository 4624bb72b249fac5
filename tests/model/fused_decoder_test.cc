// A back end's fused decoder against the same model run layer by layer, on random weights: one
// token, several tokens of one sequence, several sequences, and contexts long enough to be split.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/model_harness.h"

namespace gale {
namespace {

/// Both sides round to bf16 at other places: golden_test.cc derives this bound for one of them.
double Tolerance(int layers) { return 4 * std::ldexp(1.0, -8) * std::sqrt(11.0 * layers + 1); }

class FusedDecoderTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<ModelHarness> Load(bool fused) {
    HarnessOptions options;
    options.load.model =
        std::string(GALE_SOURCE_DIR) + "/tests/data/configs/" + GetParam() + ".json";
    options.load.format = LoadFormat::kDummy;
    options.load.dtype = ModelDType::kBf16;
    options.max_seqs = 8;
    options.max_tokens = 1500;
    options.permute_blocks = true;
    options.fused = fused;
    auto harness = ModelHarness::Load(*backend_, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return std::move(*harness);
  }

  static std::vector<TokenId> Tokens(int count, int seed) {
    std::vector<TokenId> tokens;
    for (int i = 0; i < count; ++i) tokens.push_back((i * 7919 + seed * 104729) % 700);
    return tokens;
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
};

TEST_P(FusedDecoderTest, LogitsEqualTheLayers) {
  const auto fused = Load(true);
  if (!fused->has_fused())
    GTEST_SKIP() << "device " << TestDevice() << " does not fuse this decoder";
  const auto layered = Load(false);
  const double tolerance = Tolerance(fused->loaded().config.num_layers);
  std::vector<std::vector<Piece>> steps;
  steps.push_back({{0, Tokens(1, 0)}});                         // nothing cached yet
  steps.push_back({{0, Tokens(4, 1)}});                         // four tokens of one sequence
  steps.push_back({{1, Tokens(300, 2)}, {2, Tokens(130, 3)}});  // long prompts, not fused
  steps.push_back({{0, Tokens(1, 4)}, {1, Tokens(1, 5)}, {2, Tokens(1, 6)}, {3, Tokens(1, 7)}});
  steps.push_back({{1, Tokens(2, 8)}, {2, Tokens(1, 9)}});
  steps.push_back({{3, Tokens(8, 18)}});  // as many rows as there may be
  steps.push_back({{1, Tokens(3, 19)}, {4, Tokens(4, 20)}, {2, Tokens(1, 21)}});
  steps.push_back({{4, Tokens(9, 22)}});  // one more, not fused
  steps.push_back({{4, Tokens(7, 23)}});
  for (int seq = 0; seq < 4; ++seq) steps.push_back({{seq, Tokens(1100, 10 + seq)}});
  // More pieces of context than there are processors.
  steps.push_back({{0, Tokens(1, 14)}, {1, Tokens(1, 15)}, {2, Tokens(1, 16)}, {3, Tokens(1, 17)}});
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::vector<float> expected = layered->Step(steps[i]);
    const std::vector<float> got = fused->Step(steps[i]);
    ASSERT_EQ(got.size(), expected.size());
    float max = 0;
    float error = 0;
    for (size_t j = 0; j < got.size(); ++j) {
      ASSERT_TRUE(std::isfinite(got[j])) << "step " << i << ", logit " << j;
      max = std::max(max, std::fabs(expected[j]));
      error = std::max(error, std::fabs(got[j] - expected[j]));
    }
    EXPECT_LE(error, tolerance * max) << "step " << i;
  }
  EXPECT_EQ(fused->fused_steps(), 8);
}

/// A row's logits must not depend on what the rows beside it are.
TEST_P(FusedDecoderTest, RowsDoNotDependOnTheirNeighbours) {
  const auto harness = Load(true);
  if (!harness->has_fused())
    GTEST_SKIP() << "device " << TestDevice() << " does not fuse this decoder";
  const std::vector<float> first = harness->Step({{0, Tokens(1, 1)}, {1, Tokens(3, 4)}});
  harness->Reset();
  const std::vector<float> third =
      harness->Step({{1, Tokens(2, 2)}, {0, Tokens(1, 1)}, {2, Tokens(1, 3)}});
  const auto vocab = static_cast<size_t>(harness->vocab_size());
  for (size_t i = 0; i < vocab; ++i) ASSERT_EQ(third[2 * vocab + i], first[i]) << "logit " << i;
}

INSTANTIATE_TEST_SUITE_P(Models, FusedDecoderTest,
                         testing::Values("qwen3_dim64", "llama_dim128", "qwen2_dim128"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace gale
