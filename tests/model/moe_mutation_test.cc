// The golden comparison must notice the mistakes that are easily made with experts, as
// mutation_test.cc shows for what all decoders have.
#include <algorithm>
#include <cstring>

#include <gtest/gtest.h>

#include "model/mutation_fixture.h"
#include "weights/checkpoint.h"

namespace gale {
namespace {

class MoeMutationTest : public ModelMutationTest {
 protected:
  /// The message of a checkpoint that must not load after an edit of its configuration.
  std::string Refusal(const EditedCheckpoint::EditConfig& config) {
    const EditedCheckpoint edited(folder_, config, {});
    LoadOptions options;
    options.model = edited.folder();
    const auto loaded = LoadModel(options, *backend_);
    return loaded ? "loaded" : loaded.error().message;
  }

  double ErrorWithReplaced(const std::string& from, const std::string& to) {
    return ErrorWith([&](std::string& config) { ReplaceOnce(config, from, to); }, {});
  }

  double ErrorWithZeroed(const std::string& suffix) {
    return ErrorWith({}, [&](const CheckpointTensor& entry, std::string& bytes) {
      if (entry.name.ends_with(suffix)) std::fill(bytes.begin(), bytes.end(), '\0');
    });
  }

  /// Tensors whose names end in `a` and `b` get each other's bytes.
  double ErrorWithExchanged(const std::string& a, const std::string& b) {
    const auto checkpoint = Checkpoint::Open(folder_);
    return ErrorWith({}, [&](const CheckpointTensor& entry, std::string& bytes) {
      for (const auto& [mine, other] : {std::pair(a, b), std::pair(b, a)}) {
        if (!entry.name.ends_with(mine)) continue;
        const std::string stem = entry.name.substr(0, entry.name.size() - mine.size());
        const auto data = (*checkpoint)->Find(stem + other)->data;
        bytes.assign(reinterpret_cast<const char*>(data.data()), data.size());
      }
    });
  }

  /// The first two of `rows` equal parts of each such tensor change places.
  double ErrorWithFirstRowsSwapped(const std::string& suffix, size_t rows) {
    return ErrorWith({}, [&](const CheckpointTensor& entry, std::string& bytes) {
      if (!entry.name.ends_with(suffix)) return;
      const auto row = static_cast<ptrdiff_t>(bytes.size() / rows);
      std::swap_ranges(bytes.begin(), bytes.begin() + row, bytes.begin() + row);
    });
  }
};

class MixtralMutationTest : public MoeMutationTest {};

TEST_P(MixtralMutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithExchanged(".w1.weight", ".w3.weight"), kNoticed);
  EXPECT_GT(ErrorWithFirstRowsSwapped(".gate.weight", 5), kNoticed);
  EXPECT_GT(ErrorWithExchanged(".experts.0.w2.weight", ".experts.1.w2.weight"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".gate.weight"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1"),
            kNoticed);
}

TEST_P(MixtralMutationTest, OtherNumberOfExpertsIsRefused) {
  EXPECT_NE(Refusal([](std::string& config) {
              ReplaceOnce(config, "\"num_local_experts\": 5", "\"num_local_experts\": 6");
            }).find("missing model.layers.0.block_sparse_moe.experts.5.w1.weight"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, MixtralMutationTest, testing::Values("mixtral"));

class Qwen3MoeMutationTest : public MoeMutationTest {};

TEST_P(Qwen3MoeMutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithReplaced("\"norm_topk_prob\": true", "\"norm_topk_prob\": false"), kNoticed);
  EXPECT_GT(ErrorWithExchanged(".gate_proj.weight", ".up_proj.weight"), kNoticed);
  EXPECT_GT(ErrorWithFirstRowsSwapped("mlp.gate.weight", 6), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".experts.5.down_proj.weight"), kNoticed);
}

TEST_P(Qwen3MoeMutationTest, ExpertsInADenseLayerAreRefused) {
  EXPECT_NE(Refusal([](std::string& config) {
              ReplaceOnce(config, "\"mlp_only_layers\"", "\"ignored_layers\"");
            }).find("missing model.layers.1.mlp.experts.0.gate_proj.weight"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, Qwen3MoeMutationTest, testing::Values("qwen3_moe"));

class Qwen2MoeMutationTest : public MoeMutationTest {};

TEST_P(Qwen2MoeMutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithReplaced("\"norm_topk_prob\": false", "\"norm_topk_prob\": true"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".shared_expert.down_proj.weight"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".shared_expert_gate.weight"), kNoticed);
}

TEST_P(Qwen2MoeMutationTest, OtherSparseStepIsRefused) {
  EXPECT_NE(Refusal([](std::string& config) {
              ReplaceOnce(config, "\"decoder_sparse_step\": 2", "\"decoder_sparse_step\": 1");
            }).find("missing model.layers.0.mlp.experts.0.gate_proj.weight"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, Qwen2MoeMutationTest, testing::Values("qwen2_moe"));

class GptOssMutationTest : public MoeMutationTest {};

TEST_P(GptOssMutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithZeroed(".sinks"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".router.bias"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".gate_up_proj_bias"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".down_proj_bias"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"swiglu_limit\": 1.5", "\"swiglu_limit\": 7.0"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"swiglu_alpha\": 1.702", "\"swiglu_alpha\": 1.0"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"sliding_window\": 9", "\"sliding_window\": 10"), kNoticed);
}

TEST_P(GptOssMutationTest, WindowsInTheOtherLayersAreNoticed) {
  const auto shift = [](std::string& config) {
    const std::string sliding = "\"sliding_attention\"";
    const std::string full = "\"full_attention\"";
    ReplaceOnce(config, sliding, "FIRST");
    ReplaceOnce(config, full, sliding);
    ReplaceOnce(config, "FIRST", full);
  };
  EXPECT_GT(ErrorWith(shift, {}), kNoticed);
}

TEST_P(GptOssMutationTest, UnknownQuantizationIsRefused) {
  const std::string message = Refusal([](std::string& config) {
    config.insert(1, "\"quantization_config\": {\"quant_method\": \"mxfp6\"},");
  });
  EXPECT_NE(message.find("\"mxfp6\" is not supported"), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(All, GptOssMutationTest, testing::Values("gpt_oss"));

class DeepseekMutationTest : public MoeMutationTest {};

TEST_P(DeepseekMutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithReplaced("\"topk_group\": 2", "\"topk_group\": 4"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"routed_scaling_factor\": 1", "\"routed_scaling_factor\": 2"),
            kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"mscale\": 0.7", "\"mscale\": 0.9"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"mscale_all_dim\": 0.9", "\"mscale_all_dim\": 0.7"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".shared_experts.down_proj.weight"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".kv_a_layernorm.weight"), kNoticed);
  EXPECT_GT(ErrorWithFirstRowsSwapped(".kv_b_proj.weight", 4), kNoticed);  // two heads
}

TEST_P(DeepseekMutationTest, PairsOfOtherElementsAreNoticed) {
  const auto half_split = [](std::string& config) {
    if (config.find("\"rope_interleave\": true") == std::string::npos) {
      config.insert(1, "\"rope_interleave\": false,");
    } else {
      ReplaceOnce(config, "\"rope_interleave\": true", "\"rope_interleave\": false");
    }
  };
  EXPECT_GT(ErrorWith(half_split, {}), kNoticed);
}

TEST_P(DeepseekMutationTest, ExpertsInTheFirstLayerAreRefused) {
  EXPECT_NE(Refusal([](std::string& config) {
              ReplaceOnce(config, "\"first_k_dense_replace\": 1", "\"first_k_dense_replace\": 0");
            }).find("missing model.layers.0.mlp.experts.0.gate_proj.weight"),
            std::string::npos);
}

TEST_P(DeepseekMutationTest, BiasesAreRefused) {
  EXPECT_NE(Refusal([](std::string& config) {
              ReplaceOnce(config, "\"attention_bias\": false", "\"attention_bias\": true");
            }).find("attention_bias: expected false, got true (not supported with latent"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, DeepseekMutationTest, testing::Values("deepseek_v2", "deepseek_v3"));

class DeepseekV2MutationTest : public MoeMutationTest {};

TEST_P(DeepseekV2MutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithReplaced("\"group_limited_greedy\"", "\"greedy\""), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"norm_topk_prob\": false", "\"norm_topk_prob\": true"), kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, DeepseekV2MutationTest, testing::Values("deepseek_v2"));

class DeepseekV3MutationTest : public MoeMutationTest {};

TEST_P(DeepseekV3MutationTest, IsNoticed) {
  EXPECT_GT(ErrorWithZeroed(".e_score_correction_bias"), kNoticed);
  EXPECT_GT(ErrorWithZeroed(".q_a_layernorm.weight"), kNoticed);
  EXPECT_GT(ErrorWithReplaced("\"norm_topk_prob\": true", "\"norm_topk_prob\": false"), kNoticed);
  EXPECT_GT(
      ErrorWith([](std::string& config) { config.insert(1, "\"scoring_func\": \"softmax\","); },
                {}),
      kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, DeepseekV3MutationTest, testing::Values("deepseek_v3"));

}  // namespace
}  // namespace gale
