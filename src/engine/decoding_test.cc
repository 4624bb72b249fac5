// What sampling parameters promise of a request's tokens, through the whole request path, on the
// CPU or on --device=NAME.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gale/llm_engine.h"
#include "support/device_flag.h"

namespace gale {
namespace {

using ::testing::HasSubstr;

class DecodingTest : public ::testing::Test {
 protected:
  DecodingTest() {
    EngineConfig config;
    config.model = GALE_SOURCE_DIR "/tests/data/models/qwen3_tied";
    config.device = TestDevice();
    config.numerics = Numerics::kBatchInvariant;
    config.dtype = ModelDType::kF32;
    config.threads = 1;
    config.max_model_len = 128;
    config.max_num_seqs = 16;
    config.kv_cache_bytes = size_t{16} << 20;
    auto engine = LlmEngine::Create(config);
    EXPECT_TRUE(engine) << engine.error().message;
    engine_ = *std::move(engine);
  }

  static RequestParams Request(SamplingParams sampling) {
    RequestParams request;
    request.prompt = std::vector<TokenId>{5, 17, 99, 3, 42, 17};
    request.sampling = std::move(sampling);
    return request;
  }
  RequestOutput Run(SamplingParams sampling) {
    RequestOutput output = engine_->Generate({Request(std::move(sampling))})[0];
    EXPECT_FALSE(output.error) << output.error->message;
    return output;
  }
  std::vector<TokenId> Tokens(SamplingParams sampling) {
    return Run(std::move(sampling)).samples[0].tokens;
  }
  std::string ErrorOf(SamplingParams sampling) {
    const auto added = engine_->AddRequest(Request(std::move(sampling)), [](const auto&) {});
    return added ? "" : added.error().message;
  }

  static SamplingParams Drawn(int max_tokens) {
    SamplingParams sampling;
    sampling.temperature = 1.5F;
    sampling.seed = 6;
    sampling.max_tokens = max_tokens;
    sampling.ignore_eos = true;
    return sampling;
  }

  std::unique_ptr<LlmEngine> engine_;
};

/// Greedy decoding with penalties, computed from a request's own raw log-probabilities: each of its
/// tokens must be the best of the 20 likeliest ones after the formula is applied to them.
TEST_F(DecodingTest, GreedyTokensAreTheBestAfterPenalties) {
  SamplingParams sampling;
  sampling.temperature = 0;
  sampling.max_tokens = 60;
  sampling.ignore_eos = true;
  sampling.logprobs = 20;
  const std::vector<TokenId> plain = Tokens(sampling);
  sampling.presence_penalty = 0.6F;
  sampling.frequency_penalty = 0.3F;
  sampling.logit_bias = {{.token = plain[0], .bias = -0.5F}, {.token = 70, .bias = 0.75F}};
  const SampleOutput sample = Run(sampling).samples[0];
  EXPECT_NE(sample.tokens, plain);
  std::map<TokenId, int> count;
  for (size_t i = 0; i < sample.tokens.size(); ++i) {
    TokenId best = -1;
    double best_score = -INFINITY;
    for (const TokenLogprob& top : sample.logprobs[i].top) {
      double score = top.logprob;
      if (count[top.token] > 0) score -= 0.6 + 0.3 * count[top.token];
      if (top.token == plain[0]) score -= 0.5;
      if (top.token == 70) score += 0.75;
      if (score > best_score) best = top.token;
      best_score = std::max(best_score, score);
    }
    EXPECT_EQ(sample.tokens[i], best) << "token " << i;
    ++count[sample.tokens[i]];
  }
}

TEST_F(DecodingTest, StrongPenaltiesPreventRepetition) {
  SamplingParams sampling = Drawn(60);
  sampling.temperature = 0;
  sampling.repetition_penalty = 100;
  const std::vector<TokenId> tokens = Tokens(sampling);
  EXPECT_EQ(std::set<TokenId>(tokens.begin(), tokens.end()).size(), tokens.size());
  for (const TokenId said : {5, 17, 99, 3, 42}) {  // the prompt counts too
    EXPECT_EQ(std::ranges::find(tokens, said), tokens.end());
  }
}

TEST_F(DecodingTest, DryEndsALoop) {
  SamplingParams sampling = Drawn(100);
  sampling.temperature = 0;
  const auto longest_repeat = [](const std::vector<TokenId>& tokens) {
    size_t longest = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        size_t n = 0;
        while (i + n < tokens.size() && tokens[i + n] == tokens[j + n]) ++n;
        longest = std::max(longest, n);
      }
    }
    return longest;
  };
  sampling.logit_bias = {{.token = 11, .bias = 30}};  // says 11 for ever
  EXPECT_GT(longest_repeat(Tokens(sampling)), 50);
  sampling.dry_multiplier = 100;
  sampling.dry_allowed_length = 3;
  EXPECT_LE(longest_repeat(Tokens(sampling)), 3);
}

TEST_F(DecodingTest, OnlyAllowedTokensComeAndNoBadOnes) {
  SamplingParams sampling = Drawn(100);
  sampling.allowed_token_ids = {7, 8, 9, 10};
  sampling.bad_token_ids = {{10}, {7, 8}, {8, 9, 7}};
  const std::vector<TokenId> tokens = Tokens(sampling);
  EXPECT_EQ(tokens.size(), 100);
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_TRUE(tokens[i] == 7 || tokens[i] == 8 || tokens[i] == 9);
    EXPECT_FALSE(i > 0 && tokens[i - 1] == 7 && tokens[i] == 8);
    EXPECT_FALSE(i > 1 && tokens[i - 2] == 8 && tokens[i - 1] == 9 && tokens[i] == 7);
  }
  EXPECT_EQ(std::set<TokenId>(tokens.begin(), tokens.end()).size(), 3);
  // A sequence that the prompt begins is not completed either: it ends with 17.
  sampling.allowed_token_ids = {20, 21};
  sampling.bad_token_ids = {{17, 20}};
  EXPECT_EQ(Tokens(sampling)[0], 21);
  // Where every allowed token is banned, the allowed ones win.
  sampling.bad_token_ids = {{17, 20}, {17, 21}};
  const TokenId forced = Tokens(sampling)[0];
  EXPECT_TRUE(forced == 20 || forced == 21);
}

TEST_F(DecodingTest, BiasForcesAndForbids) {
  SamplingParams sampling = Drawn(30);
  sampling.logit_bias = {{.token = 50, .bias = 100}};
  EXPECT_EQ(Tokens(sampling), std::vector<TokenId>(30, 50));
  sampling.logit_bias = {{.token = 50, .bias = -100}};
  sampling.allowed_token_ids = {50, 51};
  EXPECT_EQ(Tokens(sampling), std::vector<TokenId>(30, 51));
}

TEST_F(DecodingTest, MinTokensHoldBackEveryEnd) {
  SamplingParams sampling = Drawn(40);
  for (TokenId token = 0; token < 100; ++token) sampling.stop_token_ids.push_back(token);
  EXPECT_LT(Tokens(sampling).size(), 5);
  sampling.min_tokens = 12;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    sampling.seed = seed;
    const RequestOutput output = Run(sampling);
    const std::vector<TokenId>& tokens = output.samples[0].tokens;
    EXPECT_GE(tokens.size(), 13);  // twelve, and the one that ends it
    EXPECT_LT(tokens.size(), 20);
    for (size_t i = 0; i < 12; ++i) EXPECT_GE(tokens[i], 100);
    EXPECT_EQ(output.samples[0].finish_reason, FinishReason::kStop);
  }
}

TEST_F(DecodingTest, BestOfReturnsTheLikeliestSamples) {
  SamplingParams all = Drawn(12);
  all.n = 6;
  all.logprobs = 0;
  std::vector<SampleOutput> samples = Run(all).samples;
  ASSERT_EQ(samples.size(), 6);
  for (const SampleOutput& sample : samples) {
    double sum = 0;
    for (const PositionLogprobs& position : sample.logprobs) sum += position.chosen.logprob;
    EXPECT_NEAR(*sample.cumulative_logprob, sum, 1e-6);
  }
  std::ranges::stable_sort(samples, std::greater(), &SampleOutput::cumulative_logprob);
  SamplingParams best = all;
  best.n = 2;
  best.best_of = 6;
  best.logprobs.reset();
  const RequestOutput output = Run(best);
  ASSERT_EQ(output.samples.size(), 2);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(output.samples[i].index, static_cast<int>(i));
    EXPECT_EQ(output.samples[i].tokens, samples[i].tokens);
    EXPECT_EQ(output.samples[i].cumulative_logprob, samples[i].cumulative_logprob);
    EXPECT_TRUE(output.samples[i].logprobs.empty());
  }
  best.logprobs = 1;
  EXPECT_EQ(Run(best).samples[1].logprobs.size(), 12);
}

/// With mirostat the mean surprise of the text is the target, where free draws have another.
TEST_F(DecodingTest, MirostatKeepsTheSurprise) {
  SamplingParams sampling = Drawn(120);
  sampling.temperature = 1;
  sampling.logprobs = 0;
  const auto surprise = [&] {
    const SampleOutput sample = Run(sampling).samples[0];
    return -*sample.cumulative_logprob / std::log(2) / 120;
  };
  sampling.mirostat = 2;
  sampling.mirostat_eta = 0.3F;
  for (const float tau : {1.5F, 3.0F}) {
    sampling.mirostat_tau = tau;
    EXPECT_NEAR(surprise(), tau, 0.35);
  }
}

TEST_F(DecodingTest, LogprobsAreOfRawLogitsInEveryCombination) {
  SamplingParams sampling = Drawn(10);
  sampling.logprobs = 3;
  sampling.prompt_logprobs = 2;
  const RequestOutput plain = Run(sampling);
  sampling.presence_penalty = 1;
  sampling.xtc_probability = 0.5F;
  sampling.n = 2;
  const RequestOutput edited = Run(sampling);
  ASSERT_EQ(edited.prompt_logprobs.size(), 5);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(edited.prompt_logprobs[i].chosen.logprob, plain.prompt_logprobs[i].chosen.logprob);
    EXPECT_EQ(edited.prompt_logprobs[i].top.size(), 2);
  }
  for (const SampleOutput& sample : edited.samples) {
    ASSERT_EQ(sample.logprobs.size(), 10);
    for (size_t k = 0; k < 3; ++k) {
      const TokenLogprob& want = plain.samples[0].logprobs[0].top[k];
      EXPECT_EQ(sample.logprobs[0].top[k].token, want.token);
      EXPECT_EQ(sample.logprobs[0].top[k].logprob, want.logprob);
    }
    // What was generated, scored as a prompt.
    RequestParams scored = Request({});
    auto& prompt = std::get<std::vector<TokenId>>(scored.prompt);
    prompt.insert(prompt.end(), sample.tokens.begin(), sample.tokens.end());
    scored.sampling.max_tokens = 0;
    scored.sampling.prompt_logprobs = 0;
    const RequestOutput scores = engine_->Generate({scored})[0];
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(sample.logprobs[i].chosen.logprob, scores.prompt_logprobs[5 + i].chosen.logprob);
    }
  }
}

TEST_F(DecodingTest, WhatTheModelCannotDoIsSaid) {
  SamplingParams sampling;
  sampling.logit_bias = {{.token = 113, .bias = 1}};
  EXPECT_THAT(ErrorOf(sampling), HasSubstr("logit_bias: expected token ids in [0, 113)"));
  sampling = {};
  sampling.allowed_token_ids = {3, 500};
  EXPECT_THAT(ErrorOf(sampling), HasSubstr("allowed_token_ids: expected token ids"));
  sampling = {};
  sampling.bad_token_ids = {{3}, {4, 113}};
  EXPECT_THAT(ErrorOf(sampling), HasSubstr("bad_token_ids: expected token ids"));
  sampling = {};
  sampling.bad_words = {"no"};
  EXPECT_THAT(ErrorOf(sampling), HasSubstr("bad_words: this model has no tokenizer"));
  sampling = {};
  sampling.allowed_token_ids = {3, 4};
  sampling.bad_token_ids = {{3}, {4}};
  EXPECT_THAT(ErrorOf(sampling),
              HasSubstr("allowed_token_ids: expected one that bad_words do not"));
}

}  // namespace
}  // namespace gale
