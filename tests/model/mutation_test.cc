// The golden comparison must notice the mistakes that are easily made in a decoder. Each mistake is
// made from outside, in the batch, the configuration or the weights; the error it causes must
// exceed what the comparison allows, not only in f32 but in bf16 too.
#include <cstring>

#include <gtest/gtest.h>

#include "model/mutation_fixture.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

TEST_P(ModelMutationTest, UneditedCopyPasses) { EXPECT_LE(ErrorWith({}, {}), kAllowed); }

TEST_P(ModelMutationTest, NoRope) {
  const auto harness = Load(folder_, [](HostBatch& batch) {
    std::fill(batch.positions.begin(), batch.positions.end(), 0);  // every angle is zero
  });
  EXPECT_GT(Error(*harness), kNoticed);
}

TEST_P(ModelMutationTest, PositionsFromOneShowOnlyInRelativeTerms) {
  // Rotary attention sees distances only: a shift of all positions must change nothing.
  const auto harness = Load(folder_, [](HostBatch& batch) {
    for (int32_t& position : batch.positions) position += 1;
  });
  EXPECT_LE(Error(*harness), kAllowed);
}

TEST_P(ModelMutationTest, WrongTheta) {
  const auto edit = [](std::string& config) {
    const size_t at = config.find("\"rope_theta\": ") + std::strlen("\"rope_theta\": ");
    config.insert(at, "2");  // 10000 becomes 210000
  };
  EXPECT_GT(ErrorWith(edit, {}), kNoticed);
}

TEST_P(ModelMutationTest, MaskSeesOneTokenTooMany) {
  bool falsify = false;
  const auto harness = Load(folder_, [&](HostBatch& batch) {
    if (falsify) {
      for (int32_t& length : batch.seq_lens) ++length;
    }
  });
  // The token after the prompt lies in the cache when the prompt is run again.
  std::vector<TokenId> longer = golden_.prompt;
  longer.push_back(golden_.greedy[0]);
  harness->Step({{0, longer}});
  harness->Reset();
  falsify = true;
  EXPECT_GT(Error(*harness), kNoticed);
}

TEST_P(ModelMutationTest, MaskHidesTheTokenItself) {
  bool falsify = false;
  const auto harness = Load(folder_, [&](HostBatch& batch) {
    if (falsify) --batch.seq_lens[0];
  });
  const auto last = golden_.prompt.end() - 1;
  harness->Step({{0, {golden_.prompt.begin(), last}}});
  falsify = true;
  const auto logits = harness->Step({{0, {*last}}});
  const double error = RelativeError(
      logits, std::span(golden_.logits).last(static_cast<size_t>(harness->vocab_size())));
  RecordProperty("error", std::to_string(error));
  EXPECT_GT(error, kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, ModelMutationTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return test.param; });

class KvHeadsMutationTest : public ModelMutationTest {};

TEST_P(KvHeadsMutationTest, FirstTwoSwapped) {
  const int kv_heads = Load(folder_)->loaded().config.num_kv_heads;
  const auto swap_first_heads = [&](const CheckpointTensor& entry, std::string& bytes) {
    if (!entry.name.ends_with("k_proj.weight") && !entry.name.ends_with("v_proj.weight")) return;
    const size_t head_bytes = bytes.size() / kv_heads;
    std::swap_ranges(bytes.begin(), bytes.begin() + head_bytes, bytes.begin() + head_bytes);
  };
  EXPECT_GT(ErrorWith({}, swap_first_heads), kNoticed);
}

// qwen3_gqa5 has a single key head.
INSTANTIATE_TEST_SUITE_P(All, KvHeadsMutationTest,
                         testing::Values("gemma2", "glm", "llama_bias", "llama_gqa5",
                                         "mistral_window", "qwen2_gqa3", "qwen2_tied",
                                         "qwen3_tied"));

class QkNormMutationTest : public ModelMutationTest {};

TEST_P(QkNormMutationTest, WeightsNeutral) {
  const auto neutral = [](const CheckpointTensor& entry, std::string& bytes) {
    if (!entry.name.ends_with("q_norm.weight")) return;
    const uint16_t one = entry.dtype == DType::kBf16 ? ToBf16(1).bits : 0x3C00;  // f16
    for (size_t i = 0; i < bytes.size(); i += sizeof(one)) {
      std::memcpy(bytes.data() + i, &one, sizeof(one));
    }
  };
  EXPECT_GT(ErrorWith({}, neutral), kNoticed);
}

TEST_P(QkNormMutationTest, SkippedByAnotherArchitectureIsRefused) {
  const auto as_llama = [](std::string& config) {
    ReplaceOnce(config, "Qwen3ForCausalLM", "LlamaForCausalLM");
  };
  const EditedCheckpoint edited(folder_, as_llama, {});
  LoadOptions options;
  options.model = edited.folder();
  const auto loaded = LoadModel(options, *backend_);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("unexpected model.layers.0.self_attn.q_norm.weight"),
            std::string::npos);
}

TEST_P(QkNormMutationTest, Skipped) {
  // A Llama of the same weights without the norms is the same model but for them.
  const auto as_llama = [](std::string& config) {
    ReplaceOnce(config, "Qwen3ForCausalLM", "LlamaForCausalLM");
  };
  const auto drop = [](const CheckpointTensor& entry, std::string& bytes) {
    if (entry.name.find("_norm.weight") != std::string::npos) bytes.clear();
  };
  EXPECT_GT(ErrorWith(as_llama, drop), kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, QkNormMutationTest, testing::Values("qwen3_gqa5", "qwen3_tied"));

class LlamaGqa5MutationTest : public ModelMutationTest {};

TEST_P(LlamaGqa5MutationTest, RopeScalingDropped) {
  const auto edit = [](std::string& config) { ReplaceOnce(config, "llama3", "default"); };
  EXPECT_GT(ErrorWith(edit, {}), kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaGqa5MutationTest, testing::Values("llama_gqa5"));

class BiasMutationTest : public ModelMutationTest {
 protected:
  /// Each of these biases counts.
  void ExpectNoticed(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      const auto zero = [&](const CheckpointTensor& entry, std::string& bytes) {
        if (entry.name.ends_with(name)) std::fill(bytes.begin(), bytes.end(), '\0');
      };
      EXPECT_GT(ErrorWith({}, zero), kNoticed) << name;
    }
  }
};

TEST_P(BiasMutationTest, Zeroed) { ExpectNoticed({"q_proj.bias", "k_proj.bias", "v_proj.bias"}); }

INSTANTIATE_TEST_SUITE_P(All, BiasMutationTest,
                         testing::Values("llama_bias", "qwen2_gqa3", "qwen2_tied"));

class LlamaBiasMutationTest : public BiasMutationTest {};

TEST_P(LlamaBiasMutationTest, Zeroed) {
  ExpectNoticed({"o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias"});
}

INSTANTIATE_TEST_SUITE_P(All, LlamaBiasMutationTest, testing::Values("llama_bias"));

class Qwen2MutationTest : public ModelMutationTest {};

TEST_P(Qwen2MutationTest, BiasesUnderAnotherArchitectureAreRefused) {
  const auto as_llama = [](std::string& config) {
    ReplaceOnce(config, "Qwen2ForCausalLM", "LlamaForCausalLM");
  };
  const EditedCheckpoint edited(folder_, as_llama, {});
  LoadOptions options;
  options.model = edited.folder();
  const auto loaded = LoadModel(options, *backend_);
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("unexpected model.layers.0.self_attn.q_proj.bias"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, Qwen2MutationTest, testing::Values("qwen2_gqa3", "qwen2_tied"));

// ---- mistakes about what config.json says ----

struct ConfigMistake {
  const char* name;
  const char* model;
  const char* from;
  const char* to;
};

constexpr ConfigMistake kConfigMistakes[] = {
    {"WindowOneTooLong", "mistral_window", R"("sliding_window": 11)", R"("sliding_window": 12)"},
    {"WindowOneTooShort", "mistral_window", R"("sliding_window": 11)", R"("sliding_window": 10)"},
    {"NoWindow", "mistral_window", R"("sliding_window": 11)", R"("sliding_window": null)"},
    {"YarnDropped", "mistral_window", "\"yarn\"", "\"default\""},
    {"YarnFactor", "mistral_window", R"("factor": 2.0)", R"("factor": 4.0)"},
    {"YarnBeta", "mistral_window", R"("beta_fast": 2.0)", R"("beta_fast": 32.0)"},
    {"YarnTemperature", "mistral_window", "\"yarn\"", R"("yarn", "attention_factor": 1.0)"},
    {"WindowOneTooLong", "gemma2", R"("sliding_window": 9)", R"("sliding_window": 10)"},
    {"LayerWithoutItsWindow", "gemma2", "\"sliding_attention\"", "\"full_attention\""},
    {"ScoresNotCapped", "gemma2", R"("attn_logit_softcapping": 2.0)",
     R"("attn_logit_softcapping": 1000)"},
    {"LogitsNotCapped", "gemma2", R"("final_logit_softcapping": 4.0)",
     R"("final_logit_softcapping": 1000)"},
    {"ScoresByHeadDim", "gemma2", R"("query_pre_attn_scalar": 4)",
     R"("query_pre_attn_scalar": 12)"},
    {"SiluForGelu", "gemma2", "\"gelu_pytorch_tanh\"", "\"silu\""},
    {"WindowOneTooLong", "gemma3", R"("sliding_window": 7)", R"("sliding_window": 8)"},
    {"OneRopeForAll", "gemma3", R"("rope_theta": 100.0)", R"("rope_theta": 10000.0)"},
    {"LinearScalingDropped", "gemma3", R"("factor": 2.0)", R"("factor": 1.0)"},
    {"ScoresByHeadDim", "gemma3", R"("query_pre_attn_scalar": 6)",
     R"("query_pre_attn_scalar": 16)"},
    {"ShortDivisors", "phi3_longrope", R"("original_max_position_embeddings": 32,
    "partial_rotary_factor": 0.75)",
     R"("original_max_position_embeddings": 128,
    "attention_factor": 1.1832159566199232, "partial_rotary_factor": 0.75)"},
    {"LongRopeTemperature", "phi3_longrope", "\"longrope\"",
     R"("longrope", "attention_factor": 1.0)"},
    {"WholeHeadRotated", "glm", R"("partial_rotary_factor": 0.5,
    "rope_theta")",
     R"("partial_rotary_factor": 1.0,
    "rope_theta")"},
};

class ConfigMutationTest : public ModelMutationTest {};

/// Of the model that the test's parameter names.
TEST_P(ConfigMutationTest, EveryMistakeIsNoticed) {
  int count = 0;
  for (const ConfigMistake& mistake : kConfigMistakes) {
    if (mistake.model != GetParam()) continue;
    const auto edit = [&](std::string& config) { ReplaceOnce(config, mistake.from, mistake.to); };
    EXPECT_GT(ErrorWith(edit, {}), kNoticed) << mistake.name;
    ++count;
  }
  EXPECT_GT(count, 0);
}

INSTANTIATE_TEST_SUITE_P(All, ConfigMutationTest,
                         testing::Values("gemma2", "gemma3", "glm", "mistral_window",
                                         "phi3_longrope"));

/// What the model is loaded for decides, not the prompt: no more than it was trained for takes the
/// other divisors, whose logits are not those of the golden.
TEST(LongRopeTest, DivisorsFollowTheContext) {
  const std::string folder = GoldenFolder("phi3_longrope");
  const GoldenPrompt golden = ReadGoldens(folder).back();
  const auto backend = CreateTestBackend();
  const auto run = [&](const std::string& model, int max_model_len) {
    HarnessOptions options;
    options.load.model = model;
    options.load.dtype = ModelDType::kF32;
    options.load.max_model_len = max_model_len;
    const auto harness = ModelHarness::Load(*backend, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return (*harness)->Step({{0, golden.prompt}});
  };
  const EditedCheckpoint with_short_divisors(
      folder,
      [](std::string& config) {
        config.replace(config.rfind("\"long_factor\""), 13, "\"other\"");
        config.replace(config.rfind("\"short_factor\""), 14,
                       "\"long_factor\": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0], \"short_factor\"");
      },
      {});
  EXPECT_LE(RelativeError(run(folder, 33), golden.logits), kAllowed);
  EXPECT_GT(RelativeError(run(folder, 32), golden.logits), kNoticed);
  EXPECT_EQ(run(folder, 32), run(with_short_divisors.folder(), 0));
}

// ---- mistakes about norms ----

/// Calls edit(i, value) for each number of a bf16 tensor.
template <class Edit>
void EditNumbers(std::string& bytes, Edit&& edit) {
  for (size_t i = 0; i < bytes.size() / sizeof(Bf16); ++i) {
    Bf16 stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(stored), sizeof(stored));
    stored = ToBf16(edit(ToFloat(stored)));
    std::memcpy(bytes.data() + i * sizeof(stored), &stored, sizeof(stored));
  }
}

class SandwichMutationTest : public ModelMutationTest {};

TEST_P(SandwichMutationTest, NormsAfterABlockNeutral) {
  const bool is_gemma = GetParam().starts_with("gemma");
  for (const char* name : {is_gemma ? "post_attention_layernorm" : "post_self_attn_layernorm",
                           is_gemma ? "post_feedforward_layernorm" : "post_mlp_layernorm"}) {
    const auto neutral = [&](const CheckpointTensor& entry, std::string& bytes) {
      if (entry.name.find(name) == std::string::npos) return;
      EditNumbers(bytes, [&](float) { return is_gemma ? 0.0F : 1.0F; });
    };
    EXPECT_GT(ErrorWith({}, neutral), kNoticed) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SandwichMutationTest, testing::Values("gemma2", "gemma3", "glm4"));

class GemmaMutationTest : public ModelMutationTest {};

TEST_P(GemmaMutationTest, WeightsTakenAsTheyStand) {
  for (const char* name : {"input_layernorm", "model.norm"}) {
    const auto lower = [&](const CheckpointTensor& entry, std::string& bytes) {
      if (entry.name.find(name) == std::string::npos) return;
      EditNumbers(bytes, [](float weight) { return weight - 1; });
    };
    EXPECT_GT(ErrorWith({}, lower), kNoticed) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GemmaMutationTest, testing::Values("gemma2", "gemma3"));

class GlmMutationTest : public ModelMutationTest {};

/// Queries and keys with two elements exchanged have the same products but for the rotation.
TEST_P(GlmMutationTest, OtherElementsRotatedAsPairs) {
  const int head_dim = Load(folder_)->loaded().config.head_dim;
  const auto exchange = [&](const CheckpointTensor& entry, std::string& bytes) {
    const bool is_rotated = entry.name.find("q_proj") != std::string::npos ||
                            entry.name.find("k_proj") != std::string::npos;
    if (!is_rotated) return;
    const size_t row_bytes = bytes.size() / static_cast<size_t>(entry.shape[0]);
    for (int64_t head = 0; head < entry.shape[0]; head += head_dim) {
      char* second = bytes.data() + static_cast<size_t>(head + 1) * row_bytes;
      std::swap_ranges(second, second + row_bytes, second + row_bytes);
    }
  };
  EXPECT_GT(ErrorWith({}, exchange), kNoticed);
}

INSTANTIATE_TEST_SUITE_P(All, GlmMutationTest, testing::Values("glm", "glm4"));

}  // namespace
}  // namespace gale
