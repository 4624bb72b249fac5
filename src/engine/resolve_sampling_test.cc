#include "engine/resolve_sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ResolveSamplingTest : public ::testing::Test {
 protected:
  Result<SamplingParams> Resolve(SamplingParams sampling) const {
    ModelInfo info;
    info.vocab_size = kFakeVocab;
    return ResolveSampling(std::move(sampling), info, tokenizer_.get());
  }

  std::unique_ptr<Tokenizer> tokenizer_ = MakeByteTokenizer();
};

TEST_F(ResolveSamplingTest, BadWordsComeWithAndWithoutASpace) {
  SamplingParams sampling;
  sampling.bad_words = {"no", " no"};
  sampling.bad_token_ids = {{7}};
  const auto resolved = Resolve(sampling);
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_THAT(resolved->bad_words, IsEmpty());
  EXPECT_THAT(resolved->bad_token_ids,
              ElementsAre(ElementsAre(7), Bytes("no"), Bytes(" no"), Bytes("  no")));
}

TEST_F(ResolveSamplingTest, BreakersAreTheirLastTokens) {
  SamplingParams sampling;
  sampling.dry_breakers = {"\n", "ab"};
  sampling.dry_breaker_ids = {7};
  EXPECT_THAT(Resolve(sampling)->dry_breaker_ids, ElementsAre(7));  // DRY is off
  sampling.dry_multiplier = 1;
  EXPECT_THAT(Resolve(sampling)->dry_breaker_ids, ElementsAre(7, '\n', 'b'));
}

TEST_F(ResolveSamplingTest, TextsMayBecomeTooManyTokens) {
  SamplingParams sampling;
  sampling.bad_words = {std::string(600, 'x')};
  const auto resolved = Resolve(sampling);
  ASSERT_FALSE(resolved);
  EXPECT_THAT(resolved.error().message, HasSubstr("bad_words: expected at most 1024 tokens"));
}

}  // namespace
}  // namespace gale
