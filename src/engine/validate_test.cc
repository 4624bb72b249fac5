// SamplingParams::Validate and EngineConfig::Validate: every range, and that messages say what.
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gale/engine_config.h"
#include "gale/request.h"
#include "gale/sampling_params.h"

namespace gale {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
struct Bad {
  std::string field;
  std::function<void(T&)> spoil;
};

TEST(SamplingParamsTest, DefaultsAndBoundsAreValid) {
  EXPECT_TRUE(SamplingParams().Validate());
  SamplingParams bounds;
  bounds.temperature = 0;
  bounds.top_p = 1;
  bounds.min_p = 1;
  bounds.max_tokens = 0;
  bounds.logprobs = 20;
  bounds.prompt_logprobs = 0;
  bounds.stop = {"x"};
  bounds.repetition_penalty = 100;
  bounds.presence_penalty = -2;
  bounds.frequency_penalty = 2;
  bounds.logit_bias = {{.token = 0, .bias = -100}, {.token = 1, .bias = 100}};
  bounds.bad_token_ids.assign(256, {1, 2, 3, 4});
  bounds.mirostat = 2;
  bounds.n = bounds.best_of.emplace(1024);
  EXPECT_TRUE(bounds.Validate());
}

TEST(SamplingParamsTest, EveryRangeIsChecked) {
  const std::vector<Bad<SamplingParams>> cases = {
      {"temperature", [](auto& p) { p.temperature = -0.1F; }},
      {"temperature", [](auto& p) { p.temperature = kNan; }},
      {"temperature", [](auto& p) { p.temperature = kInfinity; }},
      {"top_k", [](auto& p) { p.top_k = -1; }},
      {"top_p", [](auto& p) { p.top_p = 0; }},
      {"top_p", [](auto& p) { p.top_p = 1.01F; }},
      {"top_p", [](auto& p) { p.top_p = kNan; }},
      {"min_p", [](auto& p) { p.min_p = -0.1F; }},
      {"min_p", [](auto& p) { p.min_p = 1.1F; }},
      {"min_p", [](auto& p) { p.min_p = kNan; }},
      {"n", [](auto& p) { p.n = 0; }},
      {"n", [](auto& p) { p.n = 1025; }},
      {"max_tokens", [](auto& p) { p.max_tokens = -1; }},
      {"stop", [](auto& p) { p.stop = {"ok", ""}; }},
      {"stop_token_ids", [](auto& p) { p.stop_token_ids = {3, -1}; }},
      {"temperature", [](auto& p) { p.temperature = 1e5F; }},
      {"typical_p", [](auto& p) { p.typical_p = 0; }},
      {"typical_p", [](auto& p) { p.typical_p = 1.1F; }},
      {"top_n_sigma", [](auto& p) { p.top_n_sigma = -1; }},
      {"top_n_sigma", [](auto& p) { p.top_n_sigma = kNan; }},
      {"xtc_probability", [](auto& p) { p.xtc_probability = 1.5F; }},
      {"xtc_threshold", [](auto& p) { p.xtc_threshold = -0.1F; }},
      {"mirostat", [](auto& p) { p.mirostat = 1; }},
      {"mirostat_tau", [](auto& p) { p.mirostat_tau = 0; }},
      {"mirostat_eta", [](auto& p) { p.mirostat_eta = kInfinity; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = kNan; }},
      {"presence_penalty", [](auto& p) { p.presence_penalty = 2.1F; }},
      {"frequency_penalty", [](auto& p) { p.frequency_penalty = -2.1F; }},
      {"dry_multiplier", [](auto& p) { p.dry_multiplier = -1; }},
      {"dry_base", [](auto& p) { p.dry_base = 0.5F; }},
      {"dry_allowed_length", [](auto& p) { p.dry_allowed_length = 0; }},
      {"dry_range", [](auto& p) { p.dry_range = -1; }},
      {"dry_breakers", [](auto& p) { p.dry_breakers = {""}; }},
      {"dry_breakers", [](auto& p) { p.dry_breaker_ids.assign(65, 1); }},
      {"dry_breaker_ids", [](auto& p) { p.dry_breaker_ids = {-1}; }},
      {"logit_bias", [](auto& p) { p.logit_bias = {{.token = 1, .bias = 101}}; }},
      {"logit_bias", [](auto& p) { p.logit_bias = {{.token = -1, .bias = 1}}; }},
      {"logit_bias", [](auto& p) { p.logit_bias = {{.token = 4}, {.token = 5}, {.token = 4}}; }},
      {"logit_bias", [](auto& p) { p.logit_bias.resize(1001); }},
      {"allowed_token_ids", [](auto& p) { p.allowed_token_ids = {5, -5}; }},
      {"bad_words", [](auto& p) { p.bad_words = {"x", ""}; }},
      {"bad_words", [](auto& p) { p.bad_words.assign(129, "x"); }},
      {"bad_words", [](auto& p) { p.bad_token_ids = {std::vector<TokenId>(1025, 1)}; }},
      {"bad_token_ids", [](auto& p) { p.bad_token_ids = {{1}, {}}; }},
      {"bad_token_ids", [](auto& p) { p.bad_token_ids = {{1, -1}}; }},
      {"min_tokens", [](auto& p) { p.min_tokens = -1; }},
      {"min_tokens", [](auto& p) { p.min_tokens = p.max_tokens + 1; }},
      {"best_of", [](auto& p) { p.n = 3, p.best_of = 2; }},
      {"num_beams", [](auto& p) { p.num_beams = 0; }},
      {"num_beams", [](auto& p) { p.num_beams = 11; }},
      {"length_penalty", [](auto& p) { p.length_penalty = kNan; }},
      {"best_of", [](auto& p) { p.num_beams = 3, p.best_of = 2; }},
      {"logit_bias", [](auto& p) { p.num_beams = 3, p.logit_bias.resize(1); }},
      {"logprobs", [](auto& p) { p.logprobs = 21; }},
      {"logprobs", [](auto& p) { p.logprobs = -1; }},
      {"prompt_logprobs", [](auto& p) { p.prompt_logprobs = 21; }},
  };
  for (const Bad<SamplingParams>& c : cases) {
    SamplingParams params;
    c.spoil(params);
    const Status status = params.Validate();
    ASSERT_FALSE(status) << c.field;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(status.error().message, StartsWith(c.field + ": expected"));
  }
}

TEST(SamplingParamsTest, MessageHasRangeAndValue) {
  SamplingParams params;
  params.top_p = 1.5F;
  EXPECT_EQ(params.Validate().error().message, "top_p: expected a number in (0, 1], got 1.5");
}

TEST(EngineConfigTest, EveryRangeIsChecked) {
  EngineConfig good;
  good.model = "models/x";
  ASSERT_TRUE(good.Validate());
  const std::vector<Bad<EngineConfig>> cases = {
      {"model", [](auto& c) { c.model.clear(); }},
      {"device", [](auto& c) { c.device.clear(); }},
      {"threads", [](auto& c) { c.threads = -1; }},
      {"max_model_len", [](auto& c) { c.max_model_len = -1; }},
      {"block_tokens", [](auto& c) { c.block_tokens = 0; }},
      {"max_num_seqs", [](auto& c) { c.max_num_seqs = 0; }},
      {"max_num_batched_tokens", [](auto& c) { c.max_num_batched_tokens = -1; }},
      {"max_queued_requests", [](auto& c) { c.max_queued_requests = 0; }},
  };
  for (const Bad<EngineConfig>& c : cases) {
    EngineConfig config = good;
    c.spoil(config);
    const Status status = config.Validate();
    ASSERT_FALSE(status) << c.field;
    EXPECT_THAT(status.error().message, StartsWith(c.field + ": expected"));
  }
}

TEST(FinishReasonTest, Names) {
  EXPECT_EQ(FinishReasonName(FinishReason::kNone), "");
  EXPECT_EQ(FinishReasonName(FinishReason::kStop), "stop");
  EXPECT_EQ(FinishReasonName(FinishReason::kLength), "length");
  EXPECT_EQ(FinishReasonName(FinishReason::kCancelled), "cancelled");
  EXPECT_EQ(FinishReasonName(FinishReason::kError), "error");
}

}  // namespace
}  // namespace gale
