// The same requests give exactly the same tokens and log-probabilities whatever the schedule, under
// Numerics::kBatchInvariant, with a real (tiny) model, on the CPU or on --device=NAME.
#include <functional>
#include <random>

#include <gtest/gtest.h>

#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {
namespace {

/// The CPU's stand-in for an asynchronous device; a real one stands for itself.
std::string DeferredDevice() { return TestDevice() == "cpu" ? "deferred" : TestDevice(); }

struct Variant {
  std::string name;
  std::function<void(EngineConfig&)> change;
  int runs = 1;  ///< the last one counts
  std::function<bool(const EngineStats&)> took_place = [](const EngineStats&) { return true; };
};

/// The models have 113 tokens.
struct Tested {
  std::string name;
  std::string model;  ///< below tests/data
  LoadFormat format = LoadFormat::kAuto;
  ModelDType dtype = ModelDType::kF32;
  size_t tiny_pool = 0;  ///< bytes that hold a sequence, and not many
};

const Tested kQwen3F32 = {"F32", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kF32,
                          size_t{20} * 16 * 3 * 3 * 20 * 2 * 4};  // heads of 20 are padded
const Tested kQwen3Bf16 = {"Bf16", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kBf16,
                           kQwen3F32.tiny_pool};
/// Two groups, one with windows of 21 tokens in blocks of 16, one in blocks of 32.
const Tested kGemma3 = {"Windows", "configs/gemma3_dim32.json", LoadFormat::kDummy,
                        ModelDType::kF32, size_t{18} * 16 * 3 * 2 * 32 * 2 * 4};

EngineConfig BaseConfig(const Tested& tested) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/" + tested.model;
  config.load_format = tested.format;
  config.device = TestDevice();
  config.numerics = Numerics::kBatchInvariant;
  config.dtype = tested.dtype;
  config.threads = 2;
  config.max_model_len = 128;
  config.max_num_seqs = 16;
  config.kv_cache_bytes = size_t{16} << 20;
  config.overlap = false;
  config.enable_prefix_cache = false;
  return config;
}

std::vector<Variant> Variants(size_t tiny_pool) {
  const auto preempted = [](const EngineStats& stats) { return stats.preemptions > 0; };
  const auto cached = [](const EngineStats& stats) { return stats.cached_tokens > 0; };
  const auto swapped = [](const EngineStats& stats) { return stats.swapped_in_blocks > 0; };
  return {
      {"batched", [](EngineConfig&) {}},
      {"overlapped", [](EngineConfig& c) { c.overlap = true; }},
      {"one thread", [](EngineConfig& c) { c.threads = 1; }},
      {"on a device that works later",
       [](EngineConfig& c) {
         c.device = DeferredDevice();
         c.overlap = true;
       }},
      {"on a device that works later, not overlapped",
       [](EngineConfig& c) { c.device = DeferredDevice(); }},
      {"overlapped, one at a time",
       [](EngineConfig& c) {
         c.overlap = true;
         c.max_num_seqs = 1;
       }},
      {"chunked", [](EngineConfig& c) { c.max_num_batched_tokens = 7; }},
      {"prefix-cached", [](EngineConfig& c) { c.enable_prefix_cache = true; }, 2, cached},
      {"preempted", [=](EngineConfig& c) { c.kv_cache_bytes = tiny_pool; }, 1, preempted},
      {"all at once",
       [=](EngineConfig& c) {
         c.overlap = true;
         c.max_num_batched_tokens = 11;
         c.enable_prefix_cache = true;
         c.kv_cache_bytes = tiny_pool;
       },
       2, preempted},
      {"all at once, on a device that works later",
       [=](EngineConfig& c) {
         c.device = DeferredDevice();
         c.overlap = true;
         c.max_num_batched_tokens = 11;
         c.enable_prefix_cache = true;
         c.kv_cache_bytes = tiny_pool;
       },
       2, preempted},
      {"swapped",
       [=](EngineConfig& c) {
         c.enable_prefix_cache = true;
         c.kv_cache_bytes = tiny_pool;
         c.host_kv_bytes = 4 * tiny_pool;
       },
       2, swapped},
      {"swapped, overlapped, on a device that works later",
       [=](EngineConfig& c) {
         c.device = DeferredDevice();
         c.overlap = true;
         c.max_num_batched_tokens = 11;
         c.enable_prefix_cache = true;
         c.kv_cache_bytes = tiny_pool;
         c.host_kv_bytes = 2 * tiny_pool;
       },
       // Where the measured times say so, blocks are computed again instead.
       2, preempted},
  };
}

std::vector<RequestParams> Requests() {
  std::mt19937 random(3);
  std::vector<TokenId> shared_prefix(40);
  for (TokenId& token : shared_prefix) token = static_cast<TokenId>(random() % 113);
  std::vector<RequestParams> requests;
  for (int i = 0; i < 14; ++i) {
    std::vector<TokenId> prompt(1 + random() % 50);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 113);
    if (i % 3 == 0) prompt.insert(prompt.begin(), shared_prefix.begin(), shared_prefix.end());
    RequestParams& request = requests.emplace_back();
    request.prompt = std::move(prompt);
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = 20 + i;
    sampling.temperature = i % 2 == 0 ? 0.0F : 0.9F;
    sampling.seed = static_cast<uint64_t>(100 + i);
    if (i % 4 == 1) sampling.top_p = 0.9F;
    if (i % 4 == 3) sampling.top_k = 20;
    if (i % 5 == 1) sampling.n = 3;
    if (i % 4 == 2) sampling.logprobs = 3;
    if (i % 6 == 4) sampling.prompt_logprobs = 2;
    if (i % 7 == 5) {
      request.task = TaskKind::kEmbed;
      sampling = {};
      sampling.max_tokens = 0;
    }
  }
  return requests;
}

std::vector<RequestOutput> RunAll(const EngineConfig& config,
                                  const std::vector<RequestParams>& requests,
                                  const Variant& variant) {
  auto engine = LlmEngine::Create(config);
  if (!engine) {
    ADD_FAILURE() << engine.error().message;
    return {};
  }
  std::vector<RequestOutput> outputs;
  for (int run = 0; run < variant.runs; ++run) outputs = (*engine)->Generate(requests);
  EXPECT_TRUE(variant.took_place((*engine)->stats())) << variant.name;
  return outputs;
}

void ExpectEqual(const std::vector<PositionLogprobs>& a, const std::vector<PositionLogprobs>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].chosen.token, b[i].chosen.token);
    EXPECT_EQ(a[i].chosen.logprob, b[i].chosen.logprob);
    ASSERT_EQ(a[i].top.size(), b[i].top.size());
    for (size_t k = 0; k < a[i].top.size(); ++k) {
      EXPECT_EQ(a[i].top[k].token, b[i].top[k].token);
      EXPECT_EQ(a[i].top[k].logprob, b[i].top[k].logprob);
    }
  }
}

void ExpectEqual(const RequestOutput& a, const RequestOutput& b) {
  ASSERT_FALSE(a.error) << a.error->message;
  ASSERT_FALSE(b.error) << b.error->message;
  ASSERT_EQ(a.samples.size(), b.samples.size());
  for (size_t i = 0; i < a.samples.size(); ++i) {
    EXPECT_EQ(a.samples[i].tokens, b.samples[i].tokens) << "sample " << i;
    EXPECT_EQ(a.samples[i].finish_reason, b.samples[i].finish_reason);
    ExpectEqual(a.samples[i].logprobs, b.samples[i].logprobs);
  }
  ExpectEqual(a.prompt_logprobs, b.prompt_logprobs);
  EXPECT_EQ(a.embedding, b.embedding);
}

class EngineEqualityTest : public ::testing::TestWithParam<Tested> {};

INSTANTIATE_TEST_SUITE_P(Models, EngineEqualityTest,
                         ::testing::Values(kQwen3F32, kQwen3Bf16, kGemma3),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(EngineEqualityTest, TokensDoNotDependOnTheSchedule) {
  const std::vector<RequestParams> requests = Requests();
  EngineConfig alone = BaseConfig(GetParam());
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

/// Requests that edit logits, and that keep a state from draw to draw, some with log-probabilities
/// (of raw logits) beside it, among others that do nothing of the kind.
std::vector<RequestParams> RequestsWithHistory() {
  std::mt19937 random(4);
  std::vector<RequestParams> requests;
  for (int i = 0; i < 14; ++i) {
    std::vector<TokenId> prompt(1 + random() % 60);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 113);
    RequestParams& request = requests.emplace_back();
    request.prompt = std::move(prompt);
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = 44 + i;
    sampling.seed = static_cast<uint64_t>(200 + i);
    sampling.temperature = i % 4 == 0 ? 0.0F : 1.1F;
    if (i % 7 == 0) sampling.repetition_penalty = 1.3F;
    if (i % 7 == 1) sampling.presence_penalty = 1.5F;
    if (i % 7 == 2) sampling.dry_multiplier = 0.8F;
    if (i % 7 == 3) sampling.mirostat = 2;
    if (i % 7 == 4) sampling.allowed_token_ids = {3, 14, 15, 92, 65, 35, 89};
    if (i % 7 == 5) sampling.bad_token_ids = {{7}, {8, 9}};
    if (i % 3 == 0) sampling.frequency_penalty = 0.4F;
    if (i % 5 == 2) sampling.logit_bias = {{.token = 20, .bias = 3}, {.token = 21, .bias = -4}};
    if (i % 5 == 3) sampling.typical_p = 0.9F;
    if (i % 5 == 4) sampling.xtc_probability = 0.5F;
    if (i % 4 == 1) sampling.logprobs = 2;
    if (i % 6 == 1) sampling.n = 3;
    if (i % 6 == 4) sampling.prompt_logprobs = 1;
    if (i == 8) sampling.best_of = 4;
    if (i == 10) sampling.mirostat_eta = 1;
    if (i % 2 == 1) {
      sampling.min_tokens = 20;
      sampling.stop_token_ids = {1, 2, 3, 4, 5, 6};
    }
  }
  return requests;
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
