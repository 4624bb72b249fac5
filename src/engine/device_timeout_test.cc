// A device that hangs in mid-step: what is in flight fails with one clear error, and the process
// lives.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"
#include "support/deferred_device.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

RequestParams Request(int max_tokens) {
  RequestParams params;
  params.prompt = std::vector<TokenId>{5, 17, 99};
  params.sampling.max_tokens = max_tokens;
  return params;
}

TEST(DeviceTimeoutTest, AHungStepFailsItsRequestsAndAllThatFollow) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied";
  config.device = "deferred";
  config.threads = 1;
  config.max_model_len = 128;
  config.device_timeout_s = 0.05;
  Result<std::unique_ptr<LlmEngine>> engine = LlmEngine::Create(config);
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_FALSE((*engine)->Generate({Request(3)})[0].error);

  FreezeDeferredDevice(true);
  Outcome running[2];
  for (Outcome& outcome : running) {
    ASSERT_TRUE((*engine)->AddRequest(Request(50), outcome.callback()));
  }
  for (Outcome& outcome : running) {
    const RequestOutput output = outcome.Wait();
    ASSERT_TRUE(output.error);
    EXPECT_EQ(output.error->code, ErrorCode::kDevice);
    EXPECT_THAT(output.error->message, HasSubstr("has not ended within 0.05 s"));
  }
  const RequestOutput later = (*engine)->Generate({Request(1)})[0];
  ASSERT_TRUE(later.error);
  EXPECT_EQ(later.error->code, ErrorCode::kDevice);
  EXPECT_EQ((*engine)->stats().running_seqs, 0);
  engine->reset();  // does not wait for the device
  FreezeDeferredDevice(false);
}

TEST(DeviceTimeoutTest, MustBeSomeTime) {
  EngineConfig config;
  config.model = "m";
  EXPECT_TRUE(config.Validate());
  for (const double seconds : {0.0, -1.0, std::nan("")}) {
    config.device_timeout_s = seconds;
    const Status status = config.Validate();
    ASSERT_FALSE(status);
    EXPECT_THAT(status.error().message, HasSubstr("device_timeout_s"));
  }
}

}  // namespace
}  // namespace gale
