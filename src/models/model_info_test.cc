#include "gale/model_info.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace gale {
namespace {

const std::string kModels = std::string(GALE_SOURCE_DIR) + "/tests/data/models/";

TEST(ModelInfo, PresetsHaveThePublishedSizes) {
  const std::pair<const char*, uint64_t> parameters[] = {
      {"deepseek-v2-lite", 15'706'484'224}, {"gpt-oss-20b", 20'914'757'184},
      {"llama3-70b", 70'553'706'496},       {"llama3-8b", 8'030'261'248},
      {"mixtral-8x7b", 46'702'792'704},     {"qwen2.5-1.5b", 1'543'714'304},
      {"qwen3-0.6b", 596'049'920},          {"qwen3-1.7b", 1'720'574'976},
      {"qwen3-30b-a3b", 30'532'122'624},
  };
  std::vector<std::string> names;
  for (const auto& [name, count] : parameters) {
    const auto info = ReadModelInfo(name);
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->num_parameters, count) << name;
    EXPECT_EQ(info->weight_bytes, 2 * count) << name;
    EXPECT_EQ(info->dtype, "bf16");
    names.push_back(name);
  }
  EXPECT_EQ(ModelPresets(), names);
  EXPECT_EQ(ReadModelInfo("llama3-8b")->kv_bytes_per_token, 2U * 32 * 8 * 128 * 2);
}

TEST(ModelInfo, CountsWindowsOnce) {
  const auto info = ReadModelInfo(kModels + "gemma3");  // bf16, 2 of 4 layers with a window of 7
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->kv_bytes_per_token, 2U * 2 * 1 * 16 * 2);
  EXPECT_EQ(info->kv_window_bytes, 7U * 2 * 2 * 1 * 16 * 2);
  EXPECT_EQ(info->window, 7);
  EXPECT_EQ(info->num_window_layers, 2);
}

TEST(ModelInfo, CountsExperts) {
  const auto qwen = ReadModelInfo("qwen3-30b-a3b");
  EXPECT_EQ(qwen->num_experts, 128);
  EXPECT_EQ(qwen->experts_per_token, 8);
  EXPECT_EQ(qwen->expert_parameters, uint64_t{48} * 128 * 3 * 2048 * 768);
  // The first layer has none.
  EXPECT_EQ(ReadModelInfo("deepseek-v2-lite")->expert_parameters,
            uint64_t{26} * 64 * 3 * 2048 * 1408);
  EXPECT_EQ(ReadModelInfo("llama3-8b")->num_experts, 0);
  EXPECT_EQ(ReadModelInfo("llama3-8b")->expert_parameters, 0U);
}

TEST(ModelInfo, LatentCachesHoldOneRowAPosition) {
  EXPECT_EQ(ReadModelInfo("deepseek-v2-lite")->kv_bytes_per_token, 2U * 27 * (512 + 64));
}

TEST(ModelInfo, OfACheckpoint) {
  const auto info = ReadModelInfo(kModels + "llama_gqa5");
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->architecture, "LlamaForCausalLM");
  EXPECT_EQ(info->num_layers, 3);
  EXPECT_EQ(info->hidden_size, 60);
  EXPECT_EQ(info->num_heads, 10);
  EXPECT_EQ(info->num_kv_heads, 2);
  EXPECT_EQ(info->head_dim, 16);
  EXPECT_EQ(info->intermediate_size, 88);
  EXPECT_EQ(info->vocab_size, 151);
  EXPECT_EQ(info->max_position, 256);
  EXPECT_FALSE(info->tied_embeddings);
  EXPECT_EQ(info->weight_bytes, 2 * info->num_parameters);
  EXPECT_EQ(info->eos_token_ids, (std::vector<TokenId>{2, 3}));
}

TEST(ModelInfo, CountsBiasesAndTiedTablesAsTheFilesDo) {
  for (const char* name : {"llama_bias", "qwen3_tied", "qwen3_gqa5"}) {
    const auto info = ReadModelInfo(kModels + name);
    ASSERT_TRUE(info) << info.error().message;
    const uint64_t element_bytes = info->dtype == "f32" ? 4 : 2;
    EXPECT_EQ(info->weight_bytes, element_bytes * info->num_parameters) << name;
  }
}

TEST(ModelInfo, UnknownNameListsThePresets) {
  const auto info = ReadModelInfo("no-such-model");
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, ErrorCode::kNotFound);
  EXPECT_NE(info.error().message.find("llama3-70b, llama3-8b, mixtral-8x7b"), std::string::npos)
      << info.error().message;
}

TEST(ModelInfo, RefusesAFileThatIsNoConfig) {
  const std::string path = testing::TempDir() + "gale_model_info_test.safetensors";
  std::ofstream(path).close();
  EXPECT_FALSE(ReadModelInfo(path));
  std::filesystem::resize_file(path, (64 << 20) + 1);  // sparse
  const auto info = ReadModelInfo(path);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, ErrorCode::kDataCorrupt);
  EXPECT_NE(info.error().message.find("at most 67108864 bytes, got 67108865"), std::string::npos);
  std::filesystem::remove(path);
}

TEST(ModelInfo, AConfigByItself) {
  const auto info = ReadModelInfo(kModels + "qwen3_tied/config.json", LoadFormat::kDummy);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->weight_bytes, ReadModelInfo(kModels + "qwen3_tied")->weight_bytes);
}

}  // namespace
}  // namespace gale
