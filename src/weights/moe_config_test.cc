#include "weights/moe_config.h"

#include <string>

#include <gtest/gtest.h>

namespace gale {
namespace {

constexpr int kLayers = 4;
constexpr int kIntermediate = 96;

Result<MoeConfig> Parse(const std::string& json) {
  const auto document = JsonDocument::Parse(json, "config.json");
  const auto root = document->root().Object();
  return ParseMoeConfig(*root, kLayers, kIntermediate);
}

TEST(MoeConfig, DenseModelsHaveNone) { EXPECT_EQ(Parse("{}")->num_experts, 0); }

TEST(MoeConfig, OfMixtral) {
  const auto moe = Parse(R"({"num_local_experts":8,"num_experts_per_tok":2})");
  ASSERT_TRUE(moe) << moe.error().message;
  EXPECT_EQ(moe->num_experts, 8);
  EXPECT_EQ(moe->top_k, 2);
  EXPECT_EQ(moe->intermediate_size, kIntermediate);
  EXPECT_EQ(moe->shared_intermediate_size, 0);
  EXPECT_FALSE(moe->norm_topk_prob.has_value());
  EXPECT_EQ(moe->is_sparse, (std::vector<bool>{true, true, true, true}));
}

TEST(MoeConfig, OfQwen) {
  const auto moe = Parse(R"({"num_experts":60,"num_experts_per_tok":4,"moe_intermediate_size":32,
      "shared_expert_intermediate_size":128,"norm_topk_prob":false,"decoder_sparse_step":2,
      "mlp_only_layers":[3]})");
  ASSERT_TRUE(moe) << moe.error().message;
  EXPECT_EQ(moe->intermediate_size, 32);
  EXPECT_EQ(moe->shared_intermediate_size, 128);
  EXPECT_EQ(moe->norm_topk_prob, false);
  EXPECT_EQ(moe->is_sparse, (std::vector<bool>{false, true, false, false}));
}

TEST(MoeConfig, OfDeepSeek) {
  const std::string fields = R"({"n_routed_experts":16,"n_shared_experts":2,
      "moe_intermediate_size":24,"num_experts_per_tok":6,"n_group":4,"topk_group":2,
      "routed_scaling_factor":2.5,"first_k_dense_replace":1,"moe_layer_freq":1)";
  const auto moe = Parse(fields + R"(,"topk_method":"noaux_tc","scoring_func":"sigmoid"})");
  ASSERT_TRUE(moe) << moe.error().message;
  EXPECT_EQ(moe->num_experts, 16);
  EXPECT_EQ(moe->shared_intermediate_size, 48);
  EXPECT_EQ(moe->num_groups, 4);
  EXPECT_EQ(moe->top_groups, 2);
  EXPECT_EQ(moe->scale, 2.5F);
  EXPECT_EQ(moe->score, RouterScore::kSigmoid);
  EXPECT_EQ(moe->is_sparse, (std::vector<bool>{false, true, true, true}));
  EXPECT_EQ(Parse(fields + R"(,"topk_method":"greedy"})")->num_groups, 1);
}

TEST(MoeConfig, RefusesBadFieldsByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"num_experts":-1})", "num_experts: expected"},
      {R"({"num_experts":8})", "num_experts_per_tok: missing"},
      {R"({"num_experts":8,"num_experts_per_tok":9})", "num_experts_per_tok: expected"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"scoring_func":"relu"})",
       "scoring_func: expected \"softmax\" or \"sigmoid\", got \"relu\" (not supported)"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"topk_method":"best"})", "topk_method"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"n_group":3})",
       "n_group: expected a divisor of 8 experts"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"n_group":2,"topk_group":3})", "topk_group"},
      {R"({"num_experts":8,"num_experts_per_tok":3,"n_group":4,"topk_group":1})",
       "num_experts_per_tok: expected at most the 2 experts that 1 of 4 groups have, got 3"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"mlp_only_layers":[4]})", "mlp_only_layers[0]"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"n_shared_experts":60000})", "n_shared_experts"},
      {R"({"num_experts":8,"num_experts_per_tok":2,"norm_topk_prob":1})", "norm_topk_prob"},
  };
  for (const auto& [json, message] : cases) {
    const auto moe = Parse(json);
    ASSERT_FALSE(moe) << json;
    EXPECT_NE(moe.error().message.find(message), std::string::npos) << moe.error().message;
  }
}

}  // namespace
}  // namespace gale
