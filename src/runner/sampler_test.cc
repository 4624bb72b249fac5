#include "runner/sampler.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

constexpr int kVocab = 37;

class SamplerTest : public ::testing::Test {
 protected:
  /// Sequence `i` of the tests below.
  RunnerSequence& Add(SamplingParams sampling, int sample_index = 0) {
    auto& seq = sequences_.emplace_back(std::make_unique<RunnerSequence>());
    seq->sampling = std::move(sampling);
    seq->sample_index = sample_index;
    rows_.push_back({.seq = sequences_.size() - 1, .hidden_row = 0, .position = 5, .target = -1});
    masks_.push_back(nullptr);
    return *seq;
  }

  /// The same, uneven logits for every row.
  std::vector<float> Logits() const {
    std::vector<float> logits;
    for (size_t row = 0; row < rows_.size(); ++row) {
      for (int token = 0; token < kVocab; ++token) {
        logits.push_back(std::sin(static_cast<float>(token) * 1.7F) * 3);
      }
    }
    return logits;
  }
  static double ExactLogprob(TokenId token) {
    double sum = 0;
    for (int i = 0; i < kVocab; ++i) sum += std::exp(std::sin(static_cast<float>(i) * 1.7F) * 3);
    return std::sin(static_cast<float>(token) * 1.7F) * 3 - std::log(sum);
  }

  std::vector<const RunnerSequence*> Sequences() const {
    std::vector<const RunnerSequence*> seqs;
    for (const auto& seq : sequences_) seqs.push_back(seq.get());
    return seqs;
  }
  std::vector<SampledRow> Draw() {
    std::vector<float> logits = Logits();
    const TensorView view(logits.data(), DType::kF32, {std::ssize(rows_), kVocab});
    return *sampler_.Draw(*stream_, view, rows_, Sequences(), masks_);
  }

  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", {.threads = 1});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
  Sampler sampler_ = *Sampler::Create(*backend_, 64, kVocab);
  std::vector<std::unique_ptr<RunnerSequence>> sequences_;
  std::vector<LogitsRow> rows_;
  std::vector<const SamplingInputs::Bitmask*> masks_;
};

TEST_F(SamplerTest, DrawIsAFunctionOfSeedPositionAndSampleIndexAlone) {
  SamplingParams sampling;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    sampling.seed = seed;
    Add(sampling);
  }
  const std::vector<SampledRow> together = Draw();
  std::set<TokenId> distinct;
  for (size_t i = 0; i < together.size(); ++i) {
    sequences_.clear();
    rows_.clear();
    masks_.clear();
    sampling.seed = i;
    Add(sampling);
    EXPECT_EQ(Draw()[0].token, together[i].token);
    distinct.insert(together[i].token);
  }
  EXPECT_GT(distinct.size(), 3);
}

TEST_F(SamplerTest, PositionsAndSampleIndicesDrawAnew) {
  SamplingParams sampling;
  sampling.seed = 4;
  sampling.temperature = 5;
  for (int i = 0; i < 40; ++i) Add(sampling, i < 20 ? i : 0);
  for (int i = 20; i < 40; ++i) rows_[static_cast<size_t>(i)].position = i;
  const std::vector<SampledRow> drawn = Draw();
  std::set<TokenId> by_index;
  std::set<TokenId> by_position;
  for (size_t i = 0; i < 20; ++i) by_index.insert(drawn[i].token);
  for (size_t i = 20; i < 40; ++i) by_position.insert(drawn[i].token);
  EXPECT_GT(by_index.size(), 8);
  EXPECT_GT(by_position.size(), 8);
}

TEST_F(SamplerTest, LogprobsAreThoseOfTheRawLogits) {
  SamplingParams sampling;
  sampling.temperature = 0.5F;
  sampling.top_k = 2;
  Add(sampling);
  sampling.logprobs = 3;
  Add(sampling);
  sampling.logprobs = 0;
  Add(sampling);
  const std::vector<SampledRow> drawn = Draw();
  EXPECT_TRUE(drawn[0].logprobs.top.empty());
  ASSERT_EQ(drawn[1].logprobs.top.size(), 3);
  EXPECT_TRUE(drawn[2].logprobs.top.empty());
  for (size_t i = 1; i < 3; ++i) {
    EXPECT_EQ(drawn[i].logprobs.chosen.token, drawn[i].token);
    EXPECT_NEAR(drawn[i].logprobs.chosen.logprob, ExactLogprob(drawn[i].token), 1e-5);
  }
  for (size_t k = 0; k < 3; ++k) {
    const TokenLogprob& top = drawn[1].logprobs.top[k];
    EXPECT_NEAR(top.logprob, ExactLogprob(top.token), 1e-5);
    EXPECT_GE(drawn[1].logprobs.top[0].logprob, top.logprob);
  }
}

TEST_F(SamplerTest, BitmaskAllowsOnlyItsTokens) {
  SamplingParams greedy;
  greedy.temperature = 0;
  SamplingInputs::Bitmask mask{.id = 1, .words = {1 << 6, 1 << 2}};  // tokens 6 and 34
  for (int i = 0; i < 20; ++i) {
    SamplingParams sampling;
    sampling.seed = static_cast<uint64_t>(i);
    sampling.temperature = 50;
    Add(sampling);
    masks_.back() = &mask;
  }
  Add(greedy);
  const std::vector<SampledRow> drawn = Draw();
  std::set<TokenId> distinct;
  for (size_t i = 0; i < 20; ++i) distinct.insert(drawn[i].token);
  EXPECT_EQ(distinct, (std::set<TokenId>{6, 34}));
  masks_.assign(masks_.size(), nullptr);
  EXPECT_EQ(Draw().back().token, drawn.back().token);  // a row without a mask is as before
}

TEST_F(SamplerTest, ScoreGivesTheTargetsLogprobs) {
  SamplingParams sampling;
  sampling.prompt_logprobs = 2;
  Add(sampling);
  sampling.prompt_logprobs = 0;
  Add(sampling);
  rows_[0].target = 11;
  rows_[1].target = 36;
  std::vector<float> logits = Logits();
  const TensorView view(logits.data(), DType::kF32, {2, kVocab});
  const std::vector<SampledRow> scored = *sampler_.Score(*stream_, view, rows_, Sequences());
  EXPECT_NEAR(scored[0].logprobs.chosen.logprob, ExactLogprob(11), 1e-5);
  EXPECT_NEAR(scored[1].logprobs.chosen.logprob, ExactLogprob(36), 1e-5);
  EXPECT_EQ(scored[0].logprobs.top.size(), 2);
  EXPECT_TRUE(scored[1].logprobs.top.empty());
}

}  // namespace
}  // namespace gale
