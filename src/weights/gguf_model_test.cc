#include "weights/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weights/checkpoint.h"
#include "weights/checkpoint_test_support.h"

namespace gale {
namespace {

const std::string kFolder = std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/";
const std::vector<std::string> kKnown = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                         "Qwen3ForCausalLM"};

std::string Bytes(const std::string& name) {
  const auto file = MappedFile::Open(kFolder + name);
  EXPECT_TRUE(file) << file.error().message;
  return std::string(file->text());
}

/// `bytes` with `from` replaced by `to`, which is as long.
std::string Replaced(std::string bytes, std::string_view from, std::string_view to) {
  EXPECT_EQ(from.size(), to.size());
  const size_t at = bytes.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return bytes.replace(at, from.size(), to);
}

/// `bytes` with the four of them that lie `distance` behind `text` replaced.
std::string Changed(std::string bytes, std::string_view text, size_t distance, uint32_t number) {
  const size_t at = bytes.find(text);
  EXPECT_NE(at, std::string::npos) << text;
  return bytes.replace(at + text.size() + distance, 4, reinterpret_cast<const char*>(&number), 4);
}

TEST(GgufModel, ReadsTheConfigurationOfLlama) {
  const auto model = GgufModel::Open(kFolder + "llama_gqa5.gguf");
  ASSERT_TRUE(model) << model.error().message;
  const auto config = model->Config(kKnown);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->dtype, DType::kBf16);
  EXPECT_EQ(config->vocab_size, 151);
  EXPECT_EQ(config->hidden_size, 60);
  EXPECT_EQ(config->intermediate_size, 88);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->num_heads, 10);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 16);
  EXPECT_EQ(config->max_position, 256);
  EXPECT_EQ(config->rms_norm_eps, 1e-5);
  EXPECT_EQ(config->rope.theta, 10000);
  EXPECT_EQ(config->rope.divisors.size(), 8U);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_FALSE(config->attention_bias);
  EXPECT_FALSE(config->mlp_bias);
  EXPECT_THAT(config->eos_token_ids, testing::ElementsAre(2, 3));
}

TEST(GgufModel, SeesBiasesAndTiedEmbeddingsByTheirTensors) {
  const auto bias = GgufModel::Open(kFolder + "llama_bias.gguf")->Config(kKnown);
  ASSERT_TRUE(bias) << bias.error().message;
  EXPECT_TRUE(bias->attention_bias);
  EXPECT_TRUE(bias->mlp_bias);
  EXPECT_TRUE(bias->rope.divisors.empty());
  const auto tied = GgufModel::Open(kFolder + "qwen3_tied.gguf")->Config(kKnown);
  ASSERT_TRUE(tied) << tied.error().message;
  EXPECT_TRUE(tied->tie_word_embeddings);
  EXPECT_EQ(tied->dtype, DType::kF16);
}

TEST(GgufModel, ListsTheTensorsOfAllShards) {
  const auto checkpoint = Checkpoint::Open(kFolder + "qwen3_gqa5-00001-of-00002.gguf");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const auto original =
      Checkpoint::Open(std::string(GALE_SOURCE_DIR) + "/tests/data/models/qwen3_gqa5");
  ASSERT_TRUE(original) << original.error().message;
  EXPECT_EQ((*checkpoint)->tensors().size(), (*original)->tensors().size());
  for (const CheckpointTensor& entry : (*original)->tensors()) {
    const CheckpointTensor* found = (*checkpoint)->Find(entry.name);
    ASSERT_NE(found, nullptr) << entry.name;
    EXPECT_EQ(found->shape, entry.shape) << entry.name;
    EXPECT_EQ(found->interleaved_head_dim, 0);
  }
}

TEST(GgufModel, RefusesModelsThatItCannotRun) {
  const std::string good = Bytes("llama_gqa5.gguf");
  struct Bad {
    const char* what;
    std::string bytes;
    const char* message;  ///< a part of it
    ErrorCode code = ErrorCode::kDataCorrupt;
  };
  const Bad cases[] = {
      {"architecture", Replaced(good, "llama\x14", "bloom\x14"),
       "general.architecture: expected one of llama, qwen2, qwen2moe, qwen3, qwen3moe, gemma2, "
       "gemma3, "
       "phi3, glm4, deepseek2, gpt-oss, got \"bloom\"",
       ErrorCode::kUnsupported},
      {"a key that is missing", Replaced(good, "llama.block_count", "llama.block_cound"),
       "llama.block_count: missing from the metadata"},
      {"no layers", Changed(good, "llama.block_count", 4, 0),
       "llama.block_count: expected an integer from 1 to"},
      {"absurdly many layers", Changed(good, "llama.block_count", 4, 1 << 30),
       "num_hidden_layers: expected"},
      {"a value of another type", Changed(good, "llama.block_count", 0, 6),
       "llama.block_count: expected an integer"},
      {"heads in no proportion", Changed(good, "llama.attention.head_count_kv", 4, 3),
       "num_key_value_heads: expected a divisor"},
      {"another size of values", Changed(good, "llama.attention.value_length", 4, 8),
       "llama.attention.value_length: expected key_length = 16, got 8 (not supported)",
       ErrorCode::kUnsupported},
      {"an end outside the vocabulary", Changed(good, "tokenizer.ggml.eos_token_id", 4, 151),
       "tokenizer.ggml.eos_token_id: expected an integer from 0 to 150, got 151"},
      {"no embedding", Replaced(good, "token_embd.weight", "token_embx.weight"),
       "expected a tensor token_embd.weight of two dimensions, got none"},
      {"rope factors of another type", Changed(good, "rope_freqs.weight", 12, 26),
       "rope_freqs.weight: expected 8 positive F32 numbers"},
  };
  for (const Bad& bad : cases) {
    const TestFolder folder;
    folder.Write("m.gguf", bad.bytes);
    const auto model = GgufModel::Open(folder.path() + "/m.gguf");
    ASSERT_TRUE(model) << bad.what << ": " << model.error().message;
    const auto config = model->Config(kKnown);
    ASSERT_FALSE(config) << bad.what;
    EXPECT_EQ(config.error().code, bad.code) << bad.what;
    EXPECT_THAT(config.error().message, testing::HasSubstr(bad.message)) << bad.what;
    EXPECT_THAT(config.error().message, testing::HasSubstr("m.gguf: ")) << bad.what;
  }
}

TEST(GgufModel, RefusesMoreExpertsThanBytes) {
  const TestFolder folder;
  // Dimensions stand innermost first behind their number: [in, out, experts].
  std::string bytes = Bytes("qwen3_moe.gguf");
  const std::string name = "blk.0.ffn_gate_exps.weight";
  const size_t dims = bytes.find(name) + name.size() + sizeof(uint32_t);
  const uint64_t hostile[] = {0, 1, uint64_t{1} << 40};
  bytes.replace(dims, sizeof(hostile), reinterpret_cast<const char*>(hostile), sizeof(hostile));
  folder.Write("m.gguf", bytes);
  const auto model = GgufModel::Open(folder.path() + "/m.gguf");
  ASSERT_TRUE(model) << model.error().message;
  const auto tensors = model->Tensors();
  ASSERT_FALSE(tensors);
  EXPECT_EQ(tensors.error().code, ErrorCode::kDataCorrupt);
  EXPECT_THAT(tensors.error().message, testing::HasSubstr(name));
}

TEST(GgufModel, RefusesElementTypesWithoutCode) {
  const TestFolder folder;
  folder.Write("m.gguf", Changed(Bytes("llama_gqa5.gguf"), "output_norm.weight", 12, 26));
  const auto checkpoint = Checkpoint::Open(folder.path() + "/m.gguf");
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(checkpoint.error().message,
              testing::HasSubstr("output_norm.weight: expected elements of type F32, F16, BF16, "
                                 "Q4_0, Q8_0, MXFP4, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K, Q3_K, "
                                 "Q4_K, Q5_K, Q6_K, IQ4_XS, got I32 (not supported)"));
}

TEST(GgufModel, RefusesShardsThatDoNotBelongTogether) {
  const std::string first = Bytes("qwen3_gqa5-00001-of-00002.gguf");
  const std::string second = Bytes("qwen3_gqa5-00002-of-00002.gguf");
  const TestFolder folder;
  const std::string path = folder.path() + "/m-00001-of-00002.gguf";
  folder.Write("m-00001-of-00002.gguf", first);
  EXPECT_EQ(GgufModel::Open(path).error().code, ErrorCode::kNotFound);

  folder.Write("m-00002-of-00002.gguf", second);
  ASSERT_TRUE(GgufModel::Open(path));
  const auto other = GgufModel::Open(folder.path() + "/m-00002-of-00002.gguf");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(other.error().message,
              testing::HasSubstr("expected the first of the 2 files of this model"));

  folder.Write("m-00002-of-00002.gguf", first);
  EXPECT_THAT(GgufModel::Open(path).error().message,
              testing::HasSubstr("split.no: expected an integer from 1 to 1, got 0"));
  folder.Write("m-00002-of-00002.gguf", Changed(first, "split.no", 4, 1));
  EXPECT_THAT(GgufModel::Open(path)->Tensors().error().message,
              testing::HasSubstr("stands in two files of the model"));
}

}  // namespace
}  // namespace gale
