// The golden comparison must notice the mistakes that are easily made in a decoder. Each mistake is
// made from outside, in the batch, the configuration or the weights; the error it causes must
// exceed what the comparison allows, not only in f32 but in bf16 too.
#include <cstring>

#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/edited_checkpoint.h"
#include "support/golden.h"
#include "support/model_harness.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

constexpr double kAllowed = 1e-4;  // of golden_test in f32
constexpr double kNoticed = 0.1;   // over golden_test's Bf16Tolerance(3) = 0.091

class ModelMutationTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<ModelHarness> Load(const std::string& folder,
                                     std::function<void(HostBatch&)> falsify = {}) {
    HarnessOptions options;
    options.load.model = folder;
    options.load.dtype = ModelDType::kF32;
    options.falsify = std::move(falsify);
    auto harness = ModelHarness::Load(*backend_, options);
    EXPECT_TRUE(harness) << harness.error().message;
    return std::move(*harness);
  }

  /// The error of the longest prompt's logits, also recorded in the test's report.
  double Error(ModelHarness& harness) {
    const double error = RelativeError(harness.Step({{0, golden_.prompt}}), golden_.logits);
    RecordProperty("error", std::to_string(error));
    return error;
  }

  double ErrorWith(const EditedCheckpoint::EditConfig& config,
                   const EditedCheckpoint::EditTensor& tensor) {
    const EditedCheckpoint edited(folder_, config, tensor);
    return Error(*Load(edited.folder()));
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::string folder_ = GoldenFolder(GetParam());
  GoldenPrompt golden_ = ReadGoldens(folder_).back();
};

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
  const auto swap_first_heads = [&](const SafetensorsEntry& entry, std::string& bytes) {
    if (!entry.name.ends_with("k_proj.weight") && !entry.name.ends_with("v_proj.weight")) return;
    const size_t head_bytes = bytes.size() / kv_heads;
    std::swap_ranges(bytes.begin(), bytes.begin() + head_bytes, bytes.begin() + head_bytes);
  };
  EXPECT_GT(ErrorWith({}, swap_first_heads), kNoticed);
}

// qwen3_gqa5 has a single key head.
INSTANTIATE_TEST_SUITE_P(All, KvHeadsMutationTest,
                         testing::Values("llama_bias", "llama_gqa5", "qwen2_gqa3", "qwen2_tied",
                                         "qwen3_tied"));

class QkNormMutationTest : public ModelMutationTest {};

TEST_P(QkNormMutationTest, WeightsNeutral) {
  const auto neutral = [](const SafetensorsEntry& entry, std::string& bytes) {
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
  const auto drop = [](const SafetensorsEntry& entry, std::string& bytes) {
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
      const auto zero = [&](const SafetensorsEntry& entry, std::string& bytes) {
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

}  // namespace
}  // namespace gale
