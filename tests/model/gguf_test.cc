// GGUF files against the checkpoints that they were made from: the same logits and greedy ids.
#include "base/gguf.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/mapped_file.h"
#include "support/device_flag.h"
#include "support/edited_checkpoint.h"
#include "support/golden.h"
#include "support/model_harness.h"
#include "tensor/ggml_block.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

struct Case {
  const char* checkpoint;
  const char* file;
  /// Of logits in f32. A file's factors of llama 3's rope are rounded to f32, which turns angles by
  /// up to 2^-24 of themselves, here under 40; all else is the same numbers in the same order.
  double tolerance = 0;
  /// What a GGUF file cannot say of config.json, and what takes its place there.
  std::pair<const char*, const char*> edit = {};
};
constexpr std::pair kGptOssEdit = {"\"swiglu_limit\": 1.5", "\"swiglu_limit\": 7.0"};
constexpr Case kCases[] = {
    {"llama_bias", "llama_bias.gguf"},
    {"llama_gqa5", "llama_gqa5.gguf", 1e-4},
    {"qwen2_gqa3", "qwen2_gqa3.gguf"},
    {"qwen3_tied", "qwen3_tied.gguf"},
    {"qwen3_gqa5", "qwen3_gqa5-00001-of-00002.gguf"},
    // 1 + w is rounded where the norms' weights w are small.
    {"gemma2",
     "gemma2.gguf",
     1e-4,
     {"\"query_pre_attn_scalar\": 4", "\"query_pre_attn_scalar\": 12"}},
    {"gemma3",
     "gemma3.gguf",
     1e-4,
     {"\"query_pre_attn_scalar\": 6", "\"query_pre_attn_scalar\": 16"}},
    {"phi3_longrope", "phi3_longrope.gguf"},
    {"glm4", "glm4.gguf"},
    {"mixtral", "mixtral.gguf"},
    {"qwen3_moe", "qwen3_moe.gguf"},
    {"gpt_oss", "gpt_oss.gguf", 0, kGptOssEdit},
    // One number in f32 stands for both of YaRN's.
    {"deepseek_v2", "deepseek_v2.gguf", 1e-4, {"\"mscale\": 0.7", "\"mscale\": 0.9"}},
    {"deepseek_v3", "deepseek_v3.gguf", 1e-4, {"\"mscale\": 0.7", "\"mscale\": 0.9"}},
};

std::unique_ptr<ModelHarness> Load(Backend& backend, const std::string& model, ModelDType dtype) {
  HarnessOptions options;
  options.load.model = model;
  options.load.dtype = dtype;
  options.load.numerics = Numerics::kBatchInvariant;
  auto harness = ModelHarness::Load(backend, options);
  EXPECT_TRUE(harness) << harness.error().message;
  return std::move(*harness);
}

class GgufTest : public testing::TestWithParam<Case> {
 protected:
  std::string File() const {
    return std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/" + GetParam().file;
  }
  /// The checkpoint, edited where it must be.
  std::unique_ptr<ModelHarness> Original(ModelDType dtype) {
    const auto& [from, to] = GetParam().edit;
    if (from == nullptr) return Load(*backend_, folder_, dtype);
    edited_ = std::make_unique<EditedCheckpoint>(
        folder_, [&](std::string& config) { ReplaceOnce(config, from, to); },
        EditedCheckpoint::EditTensor());
    return Load(*backend_, edited_->folder(), dtype);
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::string folder_ = GoldenFolder(GetParam().checkpoint);
  std::unique_ptr<EditedCheckpoint> edited_;
};

TEST_P(GgufTest, LogitsEqualThoseOfTheCheckpoint) {
  const auto original = Original(ModelDType::kF32);
  const auto gguf = Load(*backend_, File(), ModelDType::kF32);
  for (const GoldenPrompt& golden : ReadGoldens(folder_)) {
    original->Reset();
    gguf->Reset();
    const auto expected = original->Step({{0, golden.prompt}});
    EXPECT_LE(RelativeError(gguf->Step({{0, golden.prompt}}), expected), GetParam().tolerance);
  }
}

TEST_P(GgufTest, GreedyIdsEqualThoseOfTheCheckpoint) {
  const auto original = Original(ModelDType::kF32);
  const auto harness = Load(*backend_, File(), ModelDType::kF32);
  for (const GoldenPrompt& golden : ReadGoldens(folder_)) {
    const auto ids = harness->Greedy(golden.prompt, golden.greedy.size());
    EXPECT_EQ(ids, original->Greedy(golden.prompt, golden.greedy.size()));
    if (GetParam().edit.first == nullptr) {
      EXPECT_EQ(ids, golden.greedy);  // transformers'
    }
  }
}

TEST_P(GgufTest, RunsInTheDtypeOfTheCheckpoint) {
  const auto original = Original(ModelDType::kAuto);
  const auto gguf = Load(*backend_, File(), ModelDType::kAuto);
  EXPECT_EQ(gguf->loaded().config.dtype, original->loaded().config.dtype);
  EXPECT_EQ(gguf->loaded().generation.eos_token_ids, original->loaded().generation.eos_token_ids);
}

/// A tensor of the file as the f32 numbers that it stands for.
std::vector<float> ValuesOf(const Checkpoint& gguf, const std::string& name) {
  const CheckpointTensor* tensor = gguf.Find(name);
  GALE_CHECK(tensor != nullptr);
  size_t elements = 1;
  for (const int64_t dim : tensor->shape) elements *= static_cast<size_t>(dim);
  std::vector<float> values(elements);
  const TensorView out(values.data(), DType::kF32, {std::ssize(values)});
  ThreadPool threads(1);
  if (tensor->dtype) {
    ConvertElements(tensor->data, *tensor->dtype, out, threads);
  } else {
    for (int64_t b = 0; b < std::ssize(values) / kGgmlBlockElements; ++b) {
      DequantizeBlock(tensor->blocks, tensor->data.data() + b * GgmlBlockBytes(tensor->blocks),
                      values.data() + b * kGgmlBlockElements);
    }
  }
  return values;
}

/// gpt-oss's tensor `name` of all experts, of which the file has those of each expert: inputs
/// first, gates and ups in turn.
std::vector<float> StackExperts(const Checkpoint& gguf, const CheckpointTensor& stacked) {
  const bool is_bias = stacked.name.ends_with("_bias");
  const std::string experts = stacked.name.substr(0, stacked.name.rfind("experts.") + 8);
  const bool is_down = stacked.name.starts_with(experts + "down");
  const std::vector<std::string> parts =
      is_down ? std::vector<std::string>{"down"} : std::vector<std::string>{"gate", "up"};
  const auto in = static_cast<size_t>(is_bias ? 1 : stacked.shape[1]);
  std::vector<float> all;
  for (int64_t e = 0; e < stacked.shape[0]; ++e) {
    std::vector<std::vector<float>> matrices;
    for (const std::string& part : parts) {
      matrices.push_back(ValuesOf(gguf, experts + std::to_string(e) + "." + part + "_proj" +
                                            (is_bias ? ".bias" : ".weight")));
    }
    for (size_t i = 0; i < in; ++i) {
      for (size_t o = 0; o < matrices[0].size() / in; ++o) {
        for (const std::vector<float>& matrix : matrices) all.push_back(matrix[o * in + i]);
      }
    }
  }
  return all;
}

/// The checkpoint with the file's numbers in f32.
EditedCheckpoint Dequantized(const std::string& folder, const std::string& file,
                             const EditedCheckpoint::EditConfig& edit) {
  const auto gguf = Checkpoint::Open(file);
  GALE_CHECK(gguf.has_value());
  return EditedCheckpoint(folder, edit, [&](CheckpointTensor& entry, std::string& bytes) {
    const std::vector<float> values = (*gguf)->Find(entry.name) != nullptr
                                          ? ValuesOf(**gguf, entry.name)
                                          : StackExperts(**gguf, entry);
    entry.dtype_name = "F32";
    bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  });
}

struct QuantizedCase {
  const char* checkpoint;
  const char* file;
  double error;  ///< at most, beside the model that was quantized; 0: experts are picked by trifles
  std::pair<const char*, const char*> edit = {};  ///< as Case::edit
};
constexpr QuantizedCase kQuantized[] = {
    {"qwen2_tied", "qwen2_tied_q4_0.gguf", 0.6},
    {"qwen2_tied", "qwen2_tied_q8_0.gguf", 0.05},
    {"qwen2_moe", "qwen2_moe_q8_0.gguf", 0},
    {"gpt_oss", "gpt_oss_mxfp4.gguf", 0, kGptOssEdit},
};

class QuantizedGgufTest : public testing::TestWithParam<QuantizedCase> {
 protected:
  std::string File() const {
    return std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/" + GetParam().file;
  }
  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::string folder_ = GoldenFolder(GetParam().checkpoint);
};

/// Products of scales and codes are exact in f32, so that on the CPU, which multiplies them element
/// by element, nothing differs. Elsewhere a block's sum is multiplied.
TEST_P(QuantizedGgufTest, LogitsAndIdsEqualThoseOfTheDequantizedModel) {
  const auto& [from, to] = GetParam().edit;
  const EditedCheckpoint dequantized = Dequantized(folder_, File(), [&](std::string& config) {
    if (from != nullptr) ReplaceOnce(config, from, to);
  });
  const auto plain = Load(*backend_, dequantized.folder(), ModelDType::kF32);
  const auto blocks = Load(*backend_, File(), ModelDType::kF32);
  const double tolerance = backend_->info().name == "cpu" ? 0 : 1e-4;
  for (const GoldenPrompt& golden : ReadGoldens(folder_)) {
    plain->Reset();
    blocks->Reset();
    const auto expected = plain->Step({{0, golden.prompt}});
    EXPECT_LE(RelativeError(blocks->Step({{0, golden.prompt}}), expected), tolerance);
    EXPECT_EQ(blocks->Greedy(golden.prompt, 8), plain->Greedy(golden.prompt, 8));
  }
}

/// One that reads other bits would not be near the model that was quantized.
TEST_P(QuantizedGgufTest, LogitsAreNearThoseOfTheOriginal) {
  if (GetParam().error == 0) GTEST_SKIP() << "no bound is known";
  const auto original = Load(*backend_, folder_, ModelDType::kF32);
  const auto blocks = Load(*backend_, File(), ModelDType::kF32);
  const GoldenPrompt golden = ReadGoldens(folder_).front();
  const auto expected = original->Step({{0, golden.prompt}});
  const double error = RelativeError(blocks->Step({{0, golden.prompt}}), expected);
  EXPECT_LE(error, GetParam().error);
  EXPECT_GT(error, 0);
}

/// The file is used in place: no weight that is one tensor of the file is copied.
TEST_P(QuantizedGgufTest, BlocksStayPacked) {
  if (!backend_->info().is_host_memory) GTEST_SKIP() << "a device copies all";
  const auto blocks = Load(*backend_, File(), ModelDType::kBf16);
  const auto original = Load(*backend_, folder_, ModelDType::kBf16);
  const auto bytes = [](const ModelHarness& harness) {
    const Model& model = *harness.loaded().model;
    return model.mapped_bytes() + model.private_bytes();
  };
  EXPECT_LT(bytes(*blocks), bytes(*original));
  EXPECT_GT(blocks->loaded().model->mapped_bytes(), 0U);
}

/// A copy of a file whose Q4_0 tensors claim to be IQ4_NL, which has as many bytes: a type that
/// devices may have no kernel for.
std::string WithOtherType(const std::string& file) {
  const auto mapped = MappedFile::Open(file);
  std::string bytes(mapped->text());
  const auto gguf = Gguf::Parse(mapped->bytes(), file);
  constexpr uint32_t kIq4Nl = 20;
  for (const GgufTensor& tensor : gguf->tensors()) {
    if (tensor.type_name != "Q4_0") continue;
    // After its name stand the number of dimensions, those, and the type.
    const size_t type = bytes.find(tensor.name) + tensor.name.size() + 4 + 8 * tensor.shape.size();
    std::memcpy(&bytes[type], &kIq4Nl, sizeof(kIq4Nl));
  }
  const std::string path = testing::TempDir() + "gale_iq4_nl.gguf";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(GgufTypes, BlocksWithoutAKernelBecomePlainNumbers) {
  const auto backend = CreateTestBackend();
  const std::string folder = GoldenFolder("qwen2_tied");
  const std::string q4_0 = std::string(GALE_SOURCE_DIR) + "/tests/data/gguf/qwen2_tied_q4_0.gguf";
  const std::string file = WithOtherType(q4_0);
  const EditedCheckpoint dequantized = Dequantized(folder, file, {});
  for (const ModelDType dtype : {ModelDType::kF32, ModelDType::kBf16}) {
    const auto plain = Load(*backend, dequantized.folder(), dtype);
    const auto blocks = Load(*backend, file, dtype);
    const GoldenPrompt golden = ReadGoldens(folder).front();
    const auto expected = plain->Step({{0, golden.prompt}});
    const double tolerance = dtype == ModelDType::kF32 ? 1e-4 : 0.1;
    EXPECT_LE(RelativeError(blocks->Step({{0, golden.prompt}}), expected), tolerance);
    // As Q4_0 the same bits are another model.
    const auto other = Load(*backend, q4_0, dtype);
    EXPECT_GT(RelativeError(other->Step({{0, golden.prompt}}), expected), 0.3);
  }
  std::filesystem::remove(file);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedGgufTest, testing::ValuesIn(kQuantized),
                         [](const auto& test) {
                           const std::string file = test.param.file;
                           return file.substr(0, file.find('.'));
                         });

INSTANTIATE_TEST_SUITE_P(All, GgufTest, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.checkpoint); });

}  // namespace
}  // namespace gale
