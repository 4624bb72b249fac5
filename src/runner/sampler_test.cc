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
  SamplerTest() {
    const StepLimits limits{.max_tokens = 64, .max_seqs = 64, .max_model_len = 100};
    const Sampler measured(arrays_, masks_memory_, limits, kVocab);
    arrays_ = *StagedBlock::Create(*backend_, arrays_.bytes());
    masks_memory_ = *StagedBlock::Create(*backend_, masks_memory_.bytes());
    sampler_ = std::make_unique<Sampler>(arrays_, masks_memory_, limits, kVocab);
    EXPECT_TRUE(sampler_->Allocate(*backend_));
    EXPECT_TRUE(tables_.Allocate(*backend_, limits, kVocab));
    sampler_->Clear();
  }

  void Add(SamplingParams sampling, int sample_index = 0, int position = 5) {
    RunnerSequence seq;
    seq.slot = 63 - static_cast<int>(masks_.size());
    seq.sampling = std::move(sampling);
    seq.sample_index = sample_index;
    sampler_->AddDraw(seq, {.num_top = seq.sampling.logprobs.value_or(-1)}, position);
    masks_.push_back(nullptr);
  }
  void Clear() {
    sampler_->Clear();
    masks_.clear();
  }

  /// The same, uneven logits for every row.
  static std::vector<float> Logits(size_t rows) {
    std::vector<float> logits;
    for (size_t row = 0; row < rows; ++row) {
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

  /// In tiles of `tile` rows.
  std::vector<SampledRow> Draw(int64_t tile = 64) {
    const auto rows = std::ssize(masks_);
    arrays_.Upload(*backend_, *stream_);
    const std::span<const SamplingInputs::Bitmask* const> masks = masks_;
    for (int64_t begin = 0; begin < rows; begin += tile) {
      const int64_t n = std::min(tile, rows - begin);
      std::vector<float> logits = Logits(static_cast<size_t>(n));
      const TensorView view(logits.data(), DType::kF32, {n, kVocab});
      std::vector<float> copy(logits.size());
      const TensorView edited(copy.data(), DType::kF32, {n, kVocab});
      sampler_->Draw(*backend_, *stream_, view, edited, begin,
                     masks.subspan(static_cast<size_t>(begin), static_cast<size_t>(n)), tables_);
    }
    EXPECT_TRUE(stream_->Synchronize());
    std::vector<SampledRow> drawn;
    for (size_t i = 0; i < masks_.size(); ++i) drawn.push_back(sampler_->Drawn(i));
    return drawn;
  }

  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", {.threads = 1});
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
  StagedBlock arrays_;
  StagedBlock masks_memory_;
  std::unique_ptr<Sampler> sampler_;
  SequenceTables tables_;
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
    Clear();
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
  for (int i = 0; i < 40; ++i) Add(sampling, i < 20 ? i : 0, i < 20 ? 5 : i);
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

TEST_F(SamplerTest, TokensGoToTheirSlotsWhateverTheTile) {
  SamplingParams sampling;
  sampling.temperature = 5;
  sampling.logprobs = 1;
  for (uint64_t seed = 0; seed < 11; ++seed) {
    sampling.seed = seed;
    Add(sampling);
  }
  const std::vector<SampledRow> whole = Draw();
  const std::vector<SampledRow> tiled = Draw(4);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(tiled[i].token, whole[i].token);
    EXPECT_EQ(tiled[i].logprobs.chosen.logprob, whole[i].logprobs.chosen.logprob);
    EXPECT_EQ(tables_.last_tokens.As<int32_t>()[63 - i], whole[i].token);
  }
}

TEST_F(SamplerTest, ScoreGivesTheTargetsLogprobs) {
  SamplingParams sampling;
  sampling.logprobs = 1;
  Add(sampling);  // results of scores stand behind those of draws
  sampler_->AddScore({.target = 11, .num_top = 2});
  sampler_->AddScore({.target = 36, .num_top = 0});
  const SampledRow drawn = Draw()[0];
  std::vector<float> logits = Logits(2);
  sampler_->Score(*backend_, *stream_, TensorView(logits.data(), DType::kF32, {2, kVocab}), 0);
  ASSERT_TRUE(stream_->Synchronize());
  EXPECT_NEAR(sampler_->Scored(0).logprobs.chosen.logprob, ExactLogprob(11), 1e-5);
  EXPECT_NEAR(sampler_->Scored(1).logprobs.chosen.logprob, ExactLogprob(36), 1e-5);
  EXPECT_EQ(sampler_->Scored(0).logprobs.top.size(), 2);
  EXPECT_TRUE(sampler_->Scored(1).logprobs.top.empty());
  EXPECT_EQ(sampler_->Drawn(0).logprobs.chosen.logprob, drawn.logprobs.chosen.logprob);
}

}  // namespace
}  // namespace gale
