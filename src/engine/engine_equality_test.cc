// The same requests give exactly the same tokens and log-probabilities whatever the schedule, under
// Numerics::kBatchInvariant, with a real (tiny) model, on the CPU or on --device=NAME.
#include "support/engine_equality.h"

#include <gtest/gtest.h>

#include "support/device_flag.h"

namespace gale {
namespace {

class EngineEqualityTest : public ::testing::TestWithParam<Tested> {};

INSTANTIATE_TEST_SUITE_P(Models, EngineEqualityTest,
                         ::testing::Values(kQwen3F32, kQwen3Bf16, kGemma3),
                         [](const auto& tested) { return tested.param.name; });

class QuantizedKvEqualityTest : public ::testing::TestWithParam<Tested> {};

INSTANTIATE_TEST_SUITE_P(Formats, QuantizedKvEqualityTest, ::testing::ValuesIn(kQuantizedKv),
                         [](const auto& tested) { return tested.param.name; });

void ExpectTheSameWhateverTheSchedule(const Tested& tested) {
  const std::vector<RequestParams> requests = Requests();
  EngineConfig alone = BaseConfig(tested);
  alone.max_num_seqs = 1;
  const std::vector<RequestOutput> expected =
      RunAll(alone, requests, {"alone", [](EngineConfig&) {}});
  ASSERT_EQ(expected.size(), requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const SamplingParams& sampling = requests[i].sampling;
    EXPECT_EQ(expected[i].samples.size(), static_cast<size_t>(sampling.n));
    EXPECT_EQ(expected[i].samples[0].tokens.size(), static_cast<size_t>(sampling.max_tokens));
    const size_t num_prompt = std::get<std::vector<TokenId>>(requests[i].prompt).size();
    EXPECT_EQ(expected[i].prompt_logprobs.size(), sampling.prompt_logprobs ? num_prompt - 1 : 0);
  }
  for (const Variant& variant : Variants(tested.tiny_pool)) {
    EngineConfig config = BaseConfig(tested);
    variant.change(config);
    const std::vector<RequestOutput> outputs = RunAll(config, requests, variant);
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      SCOPED_TRACE(variant.name + ", request " + std::to_string(i));
      ExpectEqual(outputs[i], expected[i]);
    }
  }
}

TEST_P(EngineEqualityTest, TokensDoNotDependOnTheSchedule) {
  ExpectTheSameWhateverTheSchedule(GetParam());
}

TEST_P(QuantizedKvEqualityTest, TokensDoNotDependOnTheSchedule) {
  ExpectTheSameWhateverTheSchedule(GetParam());
}

TEST_P(EngineEqualityTest, WhatWasSaidCountsTheSameWhateverTheSchedule) {
  const std::vector<RequestParams> requests = RequestsWithHistory();
  EngineConfig alone = BaseConfig(GetParam());
  alone.max_num_seqs = 1;
  const std::vector<RequestOutput> expected =
      RunAll(alone, requests, {"alone", [](EngineConfig&) {}});
  ASSERT_EQ(expected.size(), requests.size());
  for (const Variant& variant : Variants(GetParam().tiny_pool)) {
    EngineConfig config = BaseConfig(GetParam());
    variant.change(config);
    const std::vector<RequestOutput> outputs = RunAll(config, requests, variant);
    ASSERT_EQ(outputs.size(), expected.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
      SCOPED_TRACE(variant.name + ", request " + std::to_string(i));
      ExpectEqual(outputs[i], expected[i]);
    }
  }
}

TEST_P(EngineEqualityTest, GraphsOfDecodeStepsChangeNothing) {
  std::vector<RequestParams> requests;
  for (int i = 0; i < 13; ++i) {
    RequestParams& request = requests.emplace_back();
    request.prompt = std::vector<TokenId>{5, 17, 99, i, 3 + i};
    request.sampling.max_tokens = 60 + 4 * i;  // fewer and fewer rows in the end
    request.sampling.temperature = i % 2 == 0 ? 0.0F : 0.8F;
    request.sampling.seed = static_cast<uint64_t>(i);
  }
  const std::vector<RequestOutput> expected =
      RunAll(BaseConfig(GetParam()), requests, {"synchronous", [](EngineConfig&) {}});
  EngineConfig config = BaseConfig(GetParam());
  config.device = DeferredDevice();
  config.overlap = true;
  Variant graphs{"as graphs", [](EngineConfig&) {}};
  graphs.took_place = [](const EngineStats& stats) { return stats.graph_steps > 20; };
  const std::vector<RequestOutput> outputs = RunAll(config, requests, graphs);
  ASSERT_EQ(outputs.size(), expected.size());
  for (size_t i = 0; i < outputs.size(); ++i) ExpectEqual(outputs[i], expected[i]);
}

/// One sequence, so that both loops have the same steps, as Numerics::kFast asks for.
TEST(EngineFastNumericsTest, FusedStepsAreTheSameInBothLoops) {
  EngineConfig config = BaseConfig(kQwen3Bf16);
  config.model = GALE_SOURCE_DIR "/tests/data/configs/qwen3_dim64.json";
  config.load_format = LoadFormat::kDummy;
  config.numerics = Numerics::kFast;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 99, 3, 42};
  request.sampling.max_tokens = 80;
  request.sampling.ignore_eos = true;
  request.sampling.top_k = 20;
  request.sampling.seed = 9;
  std::vector<RequestOutput> outputs;
  for (const bool overlap : {false, true}) {
    config.overlap = overlap;
    auto engine = LlmEngine::Create(config);
    ASSERT_TRUE(engine) << engine.error().message;
    outputs.push_back((*engine)->Generate({request})[0]);
    const EngineStats stats = (*engine)->stats();
    if (stats.fused_steps == 0) GTEST_SKIP() << "device " << TestDevice() << " fuses no decoder";
    EXPECT_EQ(stats.fused_steps, 79);
    EXPECT_EQ(stats.overlapped_steps, overlap ? 79 : 0);
  }
  ExpectEqual(outputs[0], outputs[1]);
}

TEST_P(EngineEqualityTest, FirstOfManySamplesIsTheOnlyOneOfOne) {
  auto engine = LlmEngine::Create(BaseConfig(GetParam()));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams one;
  one.prompt = std::vector<TokenId>{5, 17, 99, 3, 42};
  one.sampling.max_tokens = 30;
  one.sampling.seed = 11;
  RequestParams many = one;
  many.sampling.n = 4;
  const std::vector<RequestOutput> outputs = (*engine)->Generate({one, many});
  EXPECT_EQ(outputs[0].samples[0].tokens, outputs[1].samples[0].tokens);
  EXPECT_NE(outputs[1].samples[0].tokens, outputs[1].samples[1].tokens);
  EXPECT_NE(outputs[1].samples[1].tokens, outputs[1].samples[2].tokens);
}

TEST_P(EngineEqualityTest, PromptLogprobsScoreWhatGenerationDrew) {
  // Generated tokens, fed back as a prompt, have the log-probabilities they were drawn with.
  auto engine = LlmEngine::Create(BaseConfig(GetParam()));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 99};
  request.sampling.max_tokens = 25;
  request.sampling.seed = 2;
  request.sampling.logprobs = 20;
  const RequestOutput drawn = (*engine)->Generate({request})[0];
  std::vector<TokenId> all = {5, 17, 99};
  all.insert(all.end(), drawn.samples[0].tokens.begin(), drawn.samples[0].tokens.end());
  request.prompt = all;
  request.sampling.max_tokens = 0;
  request.sampling.prompt_logprobs = 20;
  const RequestOutput scored = (*engine)->Generate({request})[0];
  ASSERT_EQ(scored.prompt_logprobs.size(), all.size() - 1);
  EXPECT_EQ(scored.samples[0].finish_reason, FinishReason::kLength);
  EXPECT_TRUE(scored.samples[0].tokens.empty());
  ExpectEqual({scored.prompt_logprobs.begin() + 2, scored.prompt_logprobs.end()},
              drawn.samples[0].logprobs);
}

/// 120 tokens in a pool of fewer blocks than they fill: those out of the window are used again.
TEST(EngineWindowTest, ALongSequenceNeedsNoMoreThanItsWindow) {
  EngineConfig config = BaseConfig(kQwen3F32);
  config.model = GALE_SOURCE_DIR "/tests/data/models/mistral_window";
  config.max_num_batched_tokens = 8;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 79, 3, 42, 8, 9, 21, 80, 11};
  request.sampling.max_tokens = 110;
  request.sampling.ignore_eos = true;
  request.sampling.temperature = 0;
  const Variant once{"once", [](EngineConfig&) {}};
  const std::vector<RequestOutput> expected = RunAll(config, {request}, once);
  // A block: 16 tokens, 3 layers, 2 KV heads of 14 with padding, two tensors, 4 bytes.
  const size_t padded_dim = TestDevice() == "cpu" ? 16 : 32;
  const size_t block_bytes = 16 * 3 * 2 * padded_dim * 2 * 4;
  config.kv_cache_bytes = 5 * block_bytes;
  for (const bool overlap : {false, true}) {
    config.overlap = overlap;
    auto engine = LlmEngine::Create(config);
    ASSERT_TRUE(engine) << engine.error().message;
    const RequestOutput output = (*engine)->Generate({request})[0];
    ASSERT_EQ(output.samples[0].tokens.size(), 110U);
    ExpectEqual(output, expected[0]);
    EXPECT_EQ((*engine)->stats().preemptions, 0);
  }
}

}  // namespace
}  // namespace gale
