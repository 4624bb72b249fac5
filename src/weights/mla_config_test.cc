#include "weights/mla_config.h"

#include <string>

#include <gtest/gtest.h>

namespace gale {
namespace {

Result<MlaConfig> Parse(const std::string& json) {
  const auto document = JsonDocument::Parse(json, "config.json");
  const auto root = document->root().Object();
  return ParseMlaConfig(*root);
}

TEST(MlaConfig, OtherModelsHaveNone) { EXPECT_EQ(Parse("{}")->kv_lora_rank, 0); }

TEST(MlaConfig, OfDeepSeekV2Lite) {
  const auto mla = Parse(R"({"kv_lora_rank":512,"q_lora_rank":null,"qk_nope_head_dim":128,
      "qk_rope_head_dim":64,"v_head_dim":128,"attention_bias":false})");
  ASSERT_TRUE(mla) << mla.error().message;
  EXPECT_EQ(mla->kv_lora_rank, 512);
  EXPECT_EQ(mla->q_lora_rank, 0);
  EXPECT_EQ(mla->qk_head_dim(), 192);
  EXPECT_EQ(mla->v_head_dim, 128);
  EXPECT_TRUE(mla->rope_interleave);
}

TEST(MlaConfig, RefusesBadFieldsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"kv_lora_rank":0})", "kv_lora_rank: expected"},
      {R"({"kv_lora_rank":8})", "qk_nope_head_dim: missing"},
      {R"({"kv_lora_rank":8,"q_lora_rank":0})", "q_lora_rank: expected"},
      {R"({"kv_lora_rank":8,"qk_nope_head_dim":8,"qk_rope_head_dim":7,"v_head_dim":8})",
       "qk_rope_head_dim: expected an even number, got 7"},
      {R"({"kv_lora_rank":8,"qk_nope_head_dim":8,"qk_rope_head_dim":8,"v_head_dim":8,
           "attention_bias":true})",
       "attention_bias: expected false, got true (not supported with latent attention)"},
  };
  for (const auto& [json, message] : cases) {
    const auto mla = Parse(json);
    ASSERT_FALSE(mla) << json;
    EXPECT_NE(mla.error().message.find(message), std::string::npos) << mla.error().message;
  }
}

}  // namespace
}  // namespace gale
