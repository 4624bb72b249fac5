// What an engine makes of its device. Models that the device has no kernels for are refused before
// their weights are read, with a message that says where they run: on the CPU, which takes all of
// them. Settings that are left open take what suits the device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

/// Heads of 288 elements.
EngineConfig WideHeads(const std::string& device) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/configs/llama_dim288.json";
  config.load_format = LoadFormat::kDummy;
  config.device = device;
  config.threads = 1;
  config.max_model_len = 64;
  config.kv_cache_bytes = size_t{4} << 20;
  return config;
}

TEST(DeviceLimits, WideHeadsAreRefusedBeforeWeightsAreRead) {
  const std::string device = TestDevice() == "cpu" ? "deferred" : TestDevice();
  bool has_read = false;
  const auto engine =
      LlmEngine::Create(WideHeads(device), [&](uint64_t, uint64_t) { has_read = true; });
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(engine.error().message, HasSubstr("no attention for heads of 288 elements"));
  EXPECT_THAT(engine.error().message, HasSubstr("run it with --device cpu"));
  EXPECT_FALSE(has_read);
}

TEST(DeviceLimits, TheCpuRunsThem) {
  const auto engine = LlmEngine::Create(WideHeads("cpu"));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 96};
  request.sampling.max_tokens = 4;
  request.sampling.ignore_eos = true;
  const RequestOutput output = (*engine)->Generate({request})[0];
  ASSERT_FALSE(output.error) << output.error->message;
  EXPECT_EQ(output.samples[0].tokens.size(), 4U);
}

TEST(DeviceLimits, TheTokenBudgetSuitsTheDeviceUnlessItIsGiven) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied";
  config.device = TestDevice();
  config.threads = 1;
  config.kv_cache_bytes = size_t{4} << 20;
  for (const int budget : {0, 7}) {
    config.max_num_batched_tokens = budget;
    const auto engine = LlmEngine::Create(config);
    ASSERT_TRUE(engine) << engine.error().message;
    const int suits = TestDevice() == "cpu" ? 512 : 8192;
    EXPECT_EQ((*engine)->config().max_num_batched_tokens, budget == 0 ? suits : budget);
  }
}

}  // namespace
}  // namespace gale
