// What tests of equal tokens share: tiny models, the schedules that may alter nothing, requests of
// every kind.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {

/// The CPU's stand-in for an asynchronous device; a real one stands for itself.
inline std::string DeferredDevice() { return TestDevice() == "cpu" ? "deferred" : TestDevice(); }

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
  std::optional<KvFormat> kv = {};
};

inline const Tested kQwen3F32 = {"F32", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kF32,
                                 size_t{20} * 16 * 3 * 3 * 20 * 2 * 4};  // heads of 20 are padded
inline const Tested kQwen3Bf16 = {"Bf16", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kBf16,
                                  kQwen3F32.tiny_pool};
/// Two groups, one with windows of 21 tokens in blocks of 16, one in blocks of 32.
inline const Tested kGemma3 = {"Windows", "configs/gemma3_dim32.json", LoadFormat::kDummy,
                               ModelDType::kF32, size_t{18} * 16 * 3 * 2 * 32 * 2 * 4};
/// A row of 20 elements is padded to 32 codes and has a scale.
inline const Tested kQuantizedKv[] = {
    {"Int8", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kF32,
     size_t{13} * 16 * 3 * 3 * 2 * (32 + 4), KvFormat::kInt8},
    {"Int4", "models/qwen3_tied", LoadFormat::kAuto, ModelDType::kBf16,
     size_t{13} * 16 * 3 * 3 * 2 * (16 + 4), KvFormat::kInt4},
    {"Fp8Windows", "configs/gemma3_dim32.json", LoadFormat::kDummy, ModelDType::kF32,
     size_t{18} * 16 * 3 * 2 * 2 * (32 + 4), KvFormat::kFp8}};

inline EngineConfig BaseConfig(const Tested& tested) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/" + tested.model;
  config.load_format = tested.format;
  config.device = TestDevice();
  config.numerics = Numerics::kBatchInvariant;
  config.dtype = tested.dtype;
  config.kv_cache_dtype = tested.kv;
  config.threads = 2;
  config.max_model_len = 128;
  config.max_num_seqs = 16;
  config.kv_cache_bytes = size_t{16} << 20;
  config.overlap = false;
  config.enable_prefix_cache = false;
  return config;
}

inline std::vector<Variant> Variants(size_t tiny_pool) {
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

inline std::vector<RequestParams> Requests() {
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

inline std::vector<RequestOutput> RunAll(const EngineConfig& config,
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

inline void ExpectEqual(const std::vector<PositionLogprobs>& a,
                        const std::vector<PositionLogprobs>& b) {
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

inline void ExpectEqual(const RequestOutput& a, const RequestOutput& b) {
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

/// Requests that edit logits, and that keep a state from draw to draw, some with log-probabilities
/// (of raw logits) beside it, among others that do nothing of the kind.
inline std::vector<RequestParams> RequestsWithHistory() {
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

}  // namespace gale
