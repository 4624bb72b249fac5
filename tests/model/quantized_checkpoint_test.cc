// Models whose linear layers are in the formats of published quantized checkpoints, beside the same
// models in plain numbers: every kind of layer, merged, of experts, tied, taken apart.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "support/device_flag.h"
#include "support/edited_checkpoint.h"
#include "support/golden.h"
#include "support/model_harness.h"
#include "support/random_quantized.h"

namespace gale {
namespace {

using Edits = std::vector<std::pair<const char*, const char*>>;

struct Case {
  const char* name;
  const char* checkpoint;  ///< whose config.json it is, after the edits
  Edits edits;
  const char* quantization;
  float scale;
};

/// Sizes that groups of 32 divide.
const Edits kDense = {{"\"num_attention_heads\": 6", "\"num_attention_heads\": 4"},
                      {"\"num_key_value_heads\": 3", "\"num_key_value_heads\": 2"},
                      {"\"head_dim\": 20", "\"head_dim\": 16"},
                      {"\"intermediate_size\": 72", "\"intermediate_size\": 64"},
                      {"\"vocab_size\": 113", "\"vocab_size\": 112"},
                      {"\"float16\"", "\"float32\""}};
Edits Untied() {
  Edits edits = kDense;
  edits.emplace_back("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  return edits;
}
const Edits kSparse = {{"\"head_dim\": 12", "\"head_dim\": 16"},
                       {"\"intermediate_size\": 36", "\"intermediate_size\": 32"},
                       {"\"moe_intermediate_size\": 12", "\"moe_intermediate_size\": 32"},
                       {"\"bfloat16\"", "\"float32\""}};
const Edits kStacked = {{"\"intermediate_size\": 20", "\"intermediate_size\": 32"},
                        {"\"bfloat16\"", "\"float32\""}};
const Edits kLatent = {{"\"bfloat16\"", "\"float32\""}};

const Case kCases[] = {
    {"awq", "qwen3_tied", kDense, R"({"quant_method":"awq","bits":4,"group_size":32})", 0.02F},
    {"awq_experts", "qwen3_moe", kSparse,
     R"({"quant_method":"awq","bits":4,"group_size":32,"modules_to_not_convert":["mlp.gate"]})",
     0.02F},
    {"gptq", "qwen3_tied", kDense, R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":true})",
     0.02F},
    {"gptq_order", "qwen3_tied", kDense,
     R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":false,"desc_act":true})", 0.02F},
    {"gptq_order_experts", "qwen3_moe", kSparse,
     R"({"quant_method":"gptq","bits":4,"group_size":32,"desc_act":true})", 0.02F},
    {"gptq_head", "qwen3_tied", Untied(),
     R"({"quant_method":"gptq","bits":4,"group_size":32,"lm_head":true})", 0.02F},
    {"fp8_static", "qwen3_moe", kSparse, R"({"quant_method":"fp8","activation_scheme":"static"})",
     0.001F},
    {"fp8_latent", "deepseek_v3", kLatent,
     R"({"quant_method":"fp8","activation_scheme":"dynamic"})", 0.001F},
    {"fp8_block_latent", "deepseek_v3", kLatent,
     R"({"quant_method":"fp8","weight_block_size":[4,8]})", 0.001F},
    {"fp8_block", "qwen3_tied", kDense, R"({"quant_method":"fp8","weight_block_size":[16,32]})",
     0.001F},
    {"int4_container", "qwen3_tied", kDense,
     R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["lm_head",
         "re:.*layers.0.*down_proj"],"config_groups":{"group_0":{"targets":["Linear"],"weights":
         {"num_bits":4,"type":"int","strategy":"group","group_size":32,"symmetric":true}}}})",
     0.02F},
    {"mixed_container", "qwen3_moe", kSparse,
     R"({"quant_method":"compressed-tensors","format":"float-quantized","ignore":["lm_head"],
         "config_groups":{"a":{"targets":["re:.*(q|o)_proj"],"weights":{"num_bits":8,"type":
         "float","strategy":"channel","symmetric":true}},"b":{"targets":["Linear"],"format":
         "int-quantized","weights":{"num_bits":8,"type":"int","strategy":"channel","symmetric":
         true}}}})",
     0.001F},
    {"nf4", "qwen3_tied", kDense,
     R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4"})", 0.2F},
    {"llm_int8", "qwen3_tied", kDense, R"({"quant_method":"bitsandbytes","load_in_8bit":true})",
     0.2F},
    {"mxfp4", "gpt_oss", kStacked, R"({"quant_method":"mxfp4"})", 1},
};

std::string ConfigOf(const Case& test) {
  std::string config(MappedFile::Open(GoldenFolder(test.checkpoint) + "/config.json")->text());
  for (const auto& [from, to] : test.edits) ReplaceOnce(config, from, to);
  return config;
}

class QuantizedCheckpointTest : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<ModelHarness> Load(const std::string& folder, ModelDType dtype) {
    HarnessOptions options;
    options.load.model = folder;
    options.load.dtype = dtype;
    options.load.numerics = Numerics::kBatchInvariant;
    options.load.on_declared = [this](const Model&, const WeightBytes& weights) -> Status {
      planned_ = weights;
      return {};
    };
    auto harness = ModelHarness::Load(*backend_, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return std::move(*harness);
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  RandomQuantized checkpoint_{ConfigOf(GetParam()), GetParam().quantization, GetParam().scale};
  std::vector<TokenId> prompt_ = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9};
  WeightBytes planned_;
};

TEST_P(QuantizedCheckpointTest, LogitsAndIdsEqualThoseOfThePlainModel) {
  const auto plain = Load(checkpoint_.plain(), ModelDType::kF32);
  const auto quantized = Load(checkpoint_.quantized(), ModelDType::kF32);
  const auto expected = plain->Step({{0, prompt_}});
  EXPECT_LE(RelativeError(quantized->Step({{0, prompt_}}), expected), 1e-4);
  EXPECT_EQ(quantized->Greedy(prompt_, 6), plain->Greedy(prompt_, 6));
}

/// Rows may be rounded to 8 bits there, so that only what is plainly wrong shows.
TEST_P(QuantizedCheckpointTest, RunsInBf16) {
  const auto quantized = Load(checkpoint_.quantized(), ModelDType::kBf16);
  const auto plain = Load(checkpoint_.plain(), ModelDType::kBf16);
  const auto expected = plain->Step({{0, prompt_}});
  EXPECT_LE(RelativeError(quantized->Step({{0, prompt_}}), expected), 0.3);
}

TEST_P(QuantizedCheckpointTest, TakesTheMemoryThatWasPlanned) {
  if (!backend_->info().is_host_memory) GTEST_SKIP() << "a device rounds up in its own way";
  for (const ModelDType dtype : {ModelDType::kF32, ModelDType::kBf16}) {
    const auto quantized = Load(checkpoint_.quantized(), dtype);
    const Model& model = *quantized->loaded().model;
    // But for tables of angles, padding, and biases that are put in another order.
    EXPECT_NEAR(static_cast<double>(model.mapped_bytes() + model.private_bytes()),
                static_cast<double>(planned_.mapped_bytes + planned_.private_bytes), 8192);
  }
}

/// The shapes and formats of a configuration alone.
TEST_P(QuantizedCheckpointTest, HasDummyWeights) {
  LoadOptions options;
  options.model = checkpoint_.quantized() + "/config.json";
  options.format = LoadFormat::kDummy;
  const auto loaded = LoadModel(options, *backend_);
  ASSERT_TRUE(loaded) << loaded.error().message;
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedCheckpointTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gale
