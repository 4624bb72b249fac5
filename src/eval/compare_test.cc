#include <cmath>

#include <gtest/gtest.h>

#include "gale/eval.h"

namespace gale {
namespace {

const std::string kModel = std::string(GALE_SOURCE_DIR) + "/models/gale-tales-10m";
const std::string kText = "Once upon a time there was a little girl who lived in a small house.";

CompareOptions Options() {
  CompareOptions options;
  options.base.model = kModel;
  options.base.device = "cpu";
  options.other = options.base;
  return options;
}

TEST(CutWindowsTest, EveryTokenButThoseWithoutContextIsScoredOnce) {
  for (const size_t stride : {3U, 5U, 8U}) {
    std::vector<int> scored(21, 0);
    size_t starts = 0;
    for (const TextWindow& window : CutWindows(21, 8, stride)) {
      EXPECT_LE(window.end - window.begin, 8U);
      EXPECT_GT(window.scored_begin, window.begin);
      for (size_t i = window.scored_begin; i < window.end; ++i) ++scored[i];
      ++starts;
    }
    size_t total = 0;
    for (const int count : scored) {
      EXPECT_LE(count, 1);
      total += static_cast<size_t>(count);
    }
    EXPECT_EQ(total, stride == 8 ? 21 - starts : 20) << stride;
  }
}

TEST(CompareModelsTest, AModelDoesNotDivergeFromItself) {
  CompareOptions options = Options();
  options.window = 8;
  options.stride = 4;
  const auto same = CompareModels(options, kText);
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_EQ(same->num_scored, same->num_tokens - 1);
  EXPECT_EQ(same->kl_max, 0);
  EXPECT_EQ(same->top1_agreement, 1);
  EXPECT_EQ(same->base.perplexity, same->other.perplexity);
  EXPECT_NEAR(std::log(same->base.perplexity), same->base.nll_per_token, 1e-9);
}

TEST(CompareModelsTest, FewerBitsDivergeMore) {
  CompareOptions options = Options();
  options.num_worst = 3;
  options.other.quantize = LoadQuantization::kInt8;
  const auto int8 = CompareModels(options, kText);
  ASSERT_TRUE(int8) << int8.error().message;
  options.other.quantize = LoadQuantization::kInt4;
  const auto int4 = CompareModels(options, kText);
  ASSERT_TRUE(int4) << int4.error().message;
  EXPECT_GT(int8->kl_mean, 0);
  EXPECT_GT(int4->kl_mean, int8->kl_mean);
  EXPECT_LE(int4->kl_median, int4->kl_p99);
  ASSERT_EQ(int4->worst.size(), 3U);
  EXPECT_NEAR(int4->worst[0].kl, int4->kl_max, 1e-6);
  EXPECT_GE(int4->worst[0].kl, int4->worst[1].kl);
  // The worst token is where the text says it is.
  EXPECT_NE(kText.find(int4->worst[0].context + int4->worst[0].token), std::string::npos);
}

TEST(CompareModelsTest, BadInputIsNamed) {
  CompareOptions options = Options();
  EXPECT_EQ(CompareModels(options, "a").error().message,
            "the text has 1 tokens, a comparison needs at least 2");
  options.window = 4096;
  EXPECT_NE(CompareModels(options, kText).error().message.find("window <= 2048"),
            std::string::npos);
  options.other.model = std::string(GALE_SOURCE_DIR) + "/tests/data/e2e/tiny-chat";
  const auto other = CompareModels(options, kText);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("different vocabularies"), std::string::npos)
      << other.error().message;
}

}  // namespace
}  // namespace gale
