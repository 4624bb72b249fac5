// Beam search against transformers' generate(num_beams=...), whatever the schedule, on the CPU or
// on
// --device=NAME; and its rules one by one.
#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct GoldenBeam {
  std::vector<TokenId> ids;
  double score = 0;
};

struct GoldenSearch {
  std::vector<TokenId> prompt;
  SamplingParams sampling;
  std::vector<GoldenBeam> beams;
};

std::vector<JsonValue> Items(const JsonValue& value) { return *value.Items(); }

std::vector<TokenId> Ids(const JsonValue& value) {
  std::vector<TokenId> ids;
  for (const JsonValue& item : Items(value)) ids.push_back(static_cast<TokenId>(*item.Int()));
  return ids;
}

/// By model. See tools/goldens/beam_goldens.py.
std::map<std::string, std::vector<GoldenSearch>> ReadGoldenSearches() {
  const std::string path = GALE_SOURCE_DIR "/tests/data/decoding/beam_goldens.json";
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto document = JsonDocument::Parse(text, path);
  EXPECT_TRUE(document);
  const std::map<std::string_view, EarlyStopping> stoppings = {{"false", EarlyStopping::kNo},
                                                               {"true", EarlyStopping::kYes},
                                                               {"never", EarlyStopping::kNever}};
  std::map<std::string, std::vector<GoldenSearch>> searches;
  for (const JsonValue& item : Items(document->root())) {
    const JsonObject object = *item.Object();
    GoldenSearch& golden = searches[std::string(*object.Get("model")->String())].emplace_back();
    golden.prompt = Ids(*object.Get("prompt"));
    SamplingParams& sampling = golden.sampling;
    sampling.num_beams = static_cast<int>(*object.Get("num_beams")->Int());
    sampling.n = sampling.num_beams;
    sampling.length_penalty = static_cast<float>(*object.Get("length_penalty")->Number());
    sampling.early_stopping = stoppings.at(*object.Get("early_stopping")->String());
    sampling.max_tokens = static_cast<int>(*object.Get("max_tokens")->Int());
    sampling.stop_token_ids = Ids(*object.Get("end_tokens"));
    sampling.ignore_eos = true;
    for (const JsonValue& beam : Items(*object.Get("beams"))) {
      const JsonObject fields = *beam.Object();
      golden.beams.push_back({Ids(*fields.Get("ids")), *fields.Get("score")->Number()});
    }
  }
  return searches;
}

EngineConfig Config(const std::string& model) {
  EngineConfig config;
  config.model = GALE_SOURCE_DIR "/tests/data/models/" + model;
  config.device = TestDevice();
  config.numerics = Numerics::kBatchInvariant;
  config.dtype = ModelDType::kF32;
  config.threads = 1;
  config.max_model_len = 128;
  config.max_num_seqs = 64;
  config.max_queued_requests = 1000;
  config.kv_cache_bytes = size_t{16} << 20;
  return config;
}

void ExpectGolden(const GoldenSearch& golden, const RequestOutput& output) {
  ASSERT_FALSE(output.error) << output.error->message;
  ASSERT_EQ(output.samples.size(), golden.beams.size());
  const SamplingParams& sampling = golden.sampling;
  for (size_t i = 0; i < golden.beams.size(); ++i) {
    const SampleOutput& sample = output.samples[i];
    const GoldenBeam& beam = golden.beams[i];
    EXPECT_EQ(sample.tokens, beam.ids) << "beam " << i << " of " << sampling.num_beams;
    const auto length = static_cast<double>(sample.tokens.size());
    EXPECT_NEAR(*sample.cumulative_logprob / std::pow(length, sampling.length_penalty), beam.score,
                1e-3);
    const bool ended = sampling.stop_token_ids.end() !=
                       std::ranges::find(sampling.stop_token_ids, beam.ids.back());
    EXPECT_EQ(sample.finish_reason, ended ? FinishReason::kStop : FinishReason::kLength);
  }
  EXPECT_EQ(output.prompt_tokens, static_cast<int>(golden.prompt.size()));
}

/// Every `stride`-th search, all at once. Returns how many sequences were preempted.
uint64_t RunGoldens(size_t stride, const std::function<void(EngineConfig&)>& change) {
  uint64_t preemptions = 0;
  for (const auto& [model, all] : ReadGoldenSearches()) {
    EngineConfig config = Config(model);
    change(config);
    const auto engine = LlmEngine::Create(config);
    if (!engine) {
      ADD_FAILURE() << engine.error().message;
      continue;
    }
    std::vector<RequestParams> requests;
    for (size_t i = 0; i < all.size(); i += stride) {
      RequestParams& request = requests.emplace_back();
      request.prompt = all[i].prompt;
      request.sampling = all[i].sampling;
    }
    const std::vector<RequestOutput> outputs = (*engine)->Generate(std::move(requests));
    for (size_t i = 0; i < outputs.size(); ++i) {
      SCOPED_TRACE(model + ", search " + std::to_string(i * stride));
      ExpectGolden(all[i * stride], outputs[i]);
    }
    preemptions += (*engine)->stats().preemptions;
  }
  return preemptions;
}

TEST(BeamGoldenTest, EqualsTransformers) {
  RunGoldens(1, [](EngineConfig&) {});
}

TEST(BeamGoldenTest, FewSequencesInSmallChunks) {
  RunGoldens(3, [](EngineConfig& config) {
    config.overlap = false;
    config.enable_prefix_cache = false;
    config.max_num_seqs = 3;  // fewer than beams: some are computed again
    config.max_num_batched_tokens = 11;
  });
}

TEST(BeamGoldenTest, OnADeviceThatWorksLater) {
  RunGoldens(3, [](EngineConfig& config) {
    config.device = TestDevice() == "cpu" ? "deferred" : TestDevice();
    config.overlap = true;
  });
}

TEST(BeamGoldenTest, WhenBlocksRunOut) {
  for (const bool prefix_cache : {false, true}) {
    const uint64_t preemptions = RunGoldens(3, [=](EngineConfig& config) {
      config.enable_prefix_cache = prefix_cache;
      config.max_model_len = 48;
      // Seven blocks of the wider model, whose heads of 20 are padded to 32; a text takes three.
      config.kv_cache_bytes = size_t{7} * 16 * 3 * 3 * 32 * 2 * 4;
    });
    EXPECT_GT(preemptions, 0);
  }
}

TEST(BeamEngineTest, LogprobsAreThoseOfTheBeam) {
  const auto engine = LlmEngine::Create(Config("qwen3_tied"));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 99, 3};
  request.sampling.num_beams = 3;
  request.sampling.n = 2;
  request.sampling.max_tokens = 8;
  request.sampling.min_tokens = 8;
  request.sampling.logprobs = 2;
  const RequestOutput output = (*engine)->Generate({request})[0];
  ASSERT_FALSE(output.error) << output.error->message;
  ASSERT_EQ(output.samples.size(), 2);
  EXPECT_GE(*output.samples[0].cumulative_logprob, *output.samples[1].cumulative_logprob);
  for (const SampleOutput& sample : output.samples) {
    ASSERT_EQ(sample.tokens.size(), 8);
    ASSERT_EQ(sample.logprobs.size(), 8);
    // The same tokens as a prompt have the same log-probabilities.
    std::vector<TokenId> all = std::get<std::vector<TokenId>>(request.prompt);
    all.insert(all.end(), sample.tokens.begin(), sample.tokens.end());
    RequestParams scored;
    scored.prompt = all;
    scored.sampling.max_tokens = 0;
    scored.sampling.prompt_logprobs = 2;
    const RequestOutput scores = (*engine)->Generate({scored})[0];
    for (size_t i = 0; i < 8; ++i) {
      const PositionLogprobs& want = scores.prompt_logprobs[3 + i];
      EXPECT_EQ(sample.logprobs[i].chosen.token, want.chosen.token);
      EXPECT_NEAR(sample.logprobs[i].chosen.logprob, want.chosen.logprob, 1e-5);
      ASSERT_EQ(sample.logprobs[i].top.size(), 2);
      EXPECT_EQ(sample.logprobs[i].top[0].token, want.top[0].token);
    }
  }
}

TEST(BeamEngineTest, EndsInOneOutputWhenCancelled) {
  auto engine = LlmEngine::Create(Config("qwen3_tied"));
  ASSERT_TRUE(engine) << engine.error().message;
  RequestParams request;
  request.prompt = std::vector<TokenId>{5, 17, 99, 3};
  request.sampling.num_beams = 4;
  request.sampling.n = 2;
  request.sampling.max_tokens = 100;
  request.sampling.ignore_eos = true;
  request.sampling.early_stopping = EarlyStopping::kNever;
  std::vector<RequestOutput> outputs;
  const auto id = (*engine)->AddRequest(
      request, [&outputs](const RequestOutput& output) { outputs.push_back(output); });
  ASSERT_TRUE(id);
  (*engine)->Cancel(*id);
  // What comes after is not disturbed, and the engine ends with a search under way.
  request.sampling.max_tokens = 5;
  EXPECT_EQ((*engine)->Generate({request})[0].samples[0].tokens.size(), 5);
  request.sampling.max_tokens = 100;
  ASSERT_TRUE((*engine)->AddRequest(
      request, [&outputs](const RequestOutput& output) { outputs.push_back(output); }));
  engine->reset();
  ASSERT_EQ(outputs.size(), 2);
  for (const RequestOutput& output : outputs) {
    EXPECT_TRUE(output.finished);
    ASSERT_EQ(output.samples.size(), 2);
    EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kCancelled);
  }
}

TEST(BeamEngineTest, WhatDrawsOrEditsIsRefused) {
  SamplingParams sampling;
  sampling.num_beams = 4;
  sampling.temperature = 0.7F;  // nothing is drawn: no matter
  EXPECT_TRUE(sampling.Validate());
  sampling.repetition_penalty = 1.1F;
  EXPECT_THAT(sampling.Validate().error().message,
              HasSubstr("repetition_penalty: expected 1 with num_beams"));
  sampling.repetition_penalty = 1;
  sampling.n = 5;
  EXPECT_THAT(sampling.Validate().error().message, HasSubstr("n: expected at most num_beams, 4"));
}

/// Log-probabilities of the likeliest next tokens.
PositionLogprobs Next(std::vector<TokenLogprob> top) {
  return {.chosen = {}, .top = std::move(top)};
}

SamplingParams TwoBeams() {
  SamplingParams sampling;
  sampling.num_beams = 2;
  return sampling;
}

TEST(BeamSearchTest, GoesOnWithTheBestContinuationsOfAllBeams) {
  BeamSearch search(TwoBeams(), {}, 9);
  EXPECT_EQ(search.num_alternatives(), 4);
  search.Advance(std::vector{Next({{1, -1}, {2, -2}, {3, -5}})});
  ASSERT_EQ(search.running().size(), 2);
  EXPECT_THAT(search.running()[1].tokens, ElementsAre(2));
  search.Advance(std::vector{Next({{4, -4}, {5, -5}}), Next({{6, -0.5F}, {7, -2.5F}})});
  EXPECT_THAT(search.running()[0].tokens, ElementsAre(2, 6));
  EXPECT_THAT(search.running()[1].tokens, ElementsAre(2, 7));
  EXPECT_FLOAT_EQ(search.running()[0].sum, -2.5F);
  EXPECT_FALSE(search.is_done());
}

TEST(BeamSearchTest, EndTokensCountAmongTheBestOnly) {
  BeamSearch search(TwoBeams(), {0}, 9);
  // The end token is third of two: it neither ends a beam nor takes a place.
  search.Advance(std::vector{Next({{1, -1}, {2, -2}, {0, -3}, {3, -4}})});
  EXPECT_TRUE(search.finished().empty());
  search.Advance(std::vector{Next({{0, -1}, {4, -2}}), Next({{0, -5}, {5, -6}})});
  ASSERT_EQ(search.finished().size(), 1);
  EXPECT_THAT(search.finished()[0].tokens, ElementsAre(1, 0));
  EXPECT_FLOAT_EQ(search.finished()[0].score, -1);  // -2 over two tokens
  EXPECT_EQ(search.finished()[0].finish_reason, FinishReason::kStop);
  EXPECT_THAT(search.running()[0].tokens, ElementsAre(1, 4));
}

TEST(BeamSearchTest, MinTokensKeepEndTokensAway) {
  SamplingParams sampling = TwoBeams();
  sampling.min_tokens = 1;
  BeamSearch search(sampling, {0}, 9);
  search.Advance(std::vector{Next({{0, -1}, {1, -2}, {2, -3}})});
  EXPECT_TRUE(search.finished().empty());
  search.Advance(std::vector{Next({{0, -1}}), Next({{0, -1}})});
  EXPECT_EQ(search.finished().size(), 2);
  EXPECT_TRUE(search.is_done());
}

TEST(BeamSearchTest, EndsWhenNothingCanImprove) {
  for (const auto& [stopping, is_done] :
       std::map<EarlyStopping, bool>{{EarlyStopping::kYes, true},
                                     {EarlyStopping::kNo, true},
                                     {EarlyStopping::kNever, false}}) {
    SamplingParams sampling = TwoBeams();
    sampling.early_stopping = stopping;
    BeamSearch search(sampling, {0, 1}, 20);
    // Two beams end with -1 and -1.5; the best running one has -2, which over one token is worse,
    // but over twenty would be better.
    search.Advance(std::vector{Next({{0, -1}, {1, -1.5F}, {2, -2}, {3, -3}})});
    EXPECT_EQ(search.finished().size(), 2);
    EXPECT_EQ(search.is_done(), is_done);
  }
}

}  // namespace
}  // namespace gale
