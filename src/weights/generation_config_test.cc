#include "weights/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

Result<GenerationConfig> Parse(std::string_view json) {
  return ParseGenerationConfig(json, "generation_config.json", 100);
}

TEST(GenerationConfigTest, ReadsAdvice) {
  const auto config = Parse(
      R"({"temperature":0.6,"top_k":20,"top_p":0.95,"min_p":0.01,"typical_p":0.9,"do_sample":true,
          "repetition_penalty":1.05,"bad_words_ids":[[7],[8,9]],"max_new_tokens":2048,
          "min_new_tokens":3,"eos_token_id":[2,3],"bos_token_id":1,"num_beams":4,
          "transformers_version":"4.51.0"})");
  ASSERT_TRUE(config) << config.error().message;
  const SamplingParams& sampling = config->sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0.6F);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.95F);
  EXPECT_FLOAT_EQ(sampling.min_p, 0.01F);
  EXPECT_FLOAT_EQ(sampling.typical_p, 0.9F);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty, 1.05F);
  EXPECT_THAT(sampling.bad_token_ids, ElementsAre(ElementsAre(7), ElementsAre(8, 9)));
  EXPECT_EQ(sampling.max_tokens, 2048);
  EXPECT_EQ(sampling.min_tokens, 3);
  EXPECT_EQ(sampling.num_beams, 1);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(2, 3));
}

TEST(GenerationConfigTest, LeavesDefaultsAndHonoursGreedy) {
  const auto empty = Parse("{}");
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->sampling.temperature, SamplingParams().temperature);
  EXPECT_EQ(empty->sampling.top_k, SamplingParams().top_k);
  EXPECT_EQ(empty->sampling.repetition_penalty, 1);
  EXPECT_TRUE(empty->eos_token_ids.empty());
  EXPECT_EQ(Parse(R"({"do_sample":false,"temperature":0.6})")->sampling.temperature, 0);
}

TEST(GenerationConfigTest, RefusesBadFieldsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"temperature":-0.1})", "temperature"},
      {R"({"temperature":"hot"})", "temperature"},
      {R"({"top_k":-1})", "top_k"},
      {R"({"top_k":1.5})", "top_k"},
      {R"({"top_p":0})", "top_p"},
      {R"({"top_p":1.5})", "top_p"},
      {R"({"min_p":2})", "min_p"},
      {R"({"typical_p":0})", "typical_p"},
      {R"({"repetition_penalty":0})", "repetition_penalty"},
      {R"({"bad_words_ids":[[5],[100]]})", "bad_words_ids[1][0]"},
      {R"({"bad_words_ids":[5]})", "bad_words_ids[0]"},
      {R"({"max_new_tokens":-1})", "max_new_tokens"},
      {R"({"max_new_tokens":5,"min_new_tokens":6})", "min_new_tokens"},
      {R"({"do_sample":"no"})", "do_sample"},
      {R"({"eos_token_id":100})", "eos_token_id"},
      {R"({"eos_token_id":[[2]]})", "eos_token_id[0]"},
      {"[]", "top level"},
      {"{", "not valid JSON"},
  };
  for (const auto& [json, name] : cases) {
    const auto config = Parse(json);
    ASSERT_FALSE(config) << json;
    EXPECT_EQ(config.error().code, ErrorCode::kDataCorrupt);
    EXPECT_THAT(config.error().message, StartsWith(std::string("generation_config.json: ") + name));
  }
}

}  // namespace
}  // namespace gale
