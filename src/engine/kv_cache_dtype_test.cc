// EngineConfig::kv_cache_dtype: how many tokens fit, and how near the log-probabilities stay to
// those of a plain cache, on the CPU or on --device=NAME.
#include <cmath>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {
namespace {

EngineConfig Config(std::optional<KvFormat> kv) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/configs/qwen3_dim64.json";
  config.load_format = LoadFormat::kDummy;
  config.device = TestDevice();
  config.dtype = ModelDType::kBf16;
  config.kv_cache_bytes = size_t{2} << 20;
  config.kv_cache_dtype = kv;
  return config;
}

TEST(KvCacheDTypeTest, FewerBitsHoldMoreTokens) {
  std::map<KvFormat, double> tokens;
  for (const KvFormat kv :
       {KvFormat::kF32, KvFormat::kBf16, KvFormat::kFp8, KvFormat::kInt8, KvFormat::kInt4}) {
    MemoryReport report;
    const auto engine =
        LlmEngine::Create(Config(kv), {}, [&](const MemoryReport& plan) { report = plan; });
    ASSERT_TRUE(engine) << engine.error().message;
    EXPECT_EQ((*engine)->config().kv_cache_dtype, kv);
    tokens[kv] = static_cast<double>(report.kv_tokens);
  }
  // Heads of 64 with 4 bytes of scale; a block more or less.
  const double plain = tokens[KvFormat::kBf16];
  EXPECT_NEAR(tokens[KvFormat::kF32] / plain, 0.5, 0.05);
  EXPECT_NEAR(tokens[KvFormat::kFp8] / plain, 128.0 / 68, 0.05);
  EXPECT_EQ(tokens[KvFormat::kInt8], tokens[KvFormat::kFp8]);
  EXPECT_NEAR(tokens[KvFormat::kInt4] / plain, 128.0 / 36, 0.1);
}

TEST(KvCacheDTypeTest, UnsetIsThatOfActivations) {
  const auto engine = LlmEngine::Create(Config(std::nullopt));
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_EQ((*engine)->config().kv_cache_dtype, KvFormat::kBf16);
}

/// Log-probabilities of a prompt's tokens.
std::vector<double> Score(KvFormat kv) {
  EngineConfig config = Config(kv);
  config.dtype = ModelDType::kF32;
  auto engine = LlmEngine::Create(config);
  if (!engine) {
    ADD_FAILURE() << engine.error().message;
    return {};
  }
  RequestParams request;
  std::vector<TokenId> prompt;
  for (int i = 0; i < 90; ++i) prompt.push_back((i * i + 7 * i) % 100);
  request.prompt = prompt;
  request.sampling.max_tokens = 0;
  request.sampling.prompt_logprobs = 0;
  const RequestOutput output = (*engine)->Generate({request})[0];
  EXPECT_FALSE(output.error);
  std::vector<double> scores;
  for (const PositionLogprobs& at : output.prompt_logprobs) scores.push_back(at.chosen.logprob);
  return scores;
}

TEST(KvCacheDTypeTest, FewerBitsStayNear) {
  const std::vector<double> plain = Score(KvFormat::kF32);
  ASSERT_EQ(plain.size(), 89U);
  const auto distance = [&](KvFormat kv) {
    const std::vector<double> scores = Score(kv);
    double sum = 0;
    for (size_t i = 0; i < plain.size(); ++i) sum += std::abs(scores.at(i) - plain[i]);
    return sum / static_cast<double>(plain.size());
  };
  const double int8 = distance(KvFormat::kInt8);
  const double fp8 = distance(KvFormat::kFp8);
  const double int4 = distance(KvFormat::kInt4);
  EXPECT_GT(int8, 0);
  EXPECT_LT(int8, fp8);
  EXPECT_LT(fp8, int4);
  EXPECT_LT(int8, 0.05);
  EXPECT_LT(int4, 1);
}

}  // namespace
}  // namespace gale
