// Layers as published checkpoints store them (tests/data/quant, from
// tools/goldens/quant_goldens.py) against what the packages that define the formats make of them;
// and what is refused.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/registry.h"
#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "quant/merged_weight.h"
#include "quant/quant_scheme.h"
#include "weights/checkpoint_test_support.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

const std::string& DataFolder() {
  static const std::string folder = std::string(GALE_SOURCE_DIR) + "/tests/data/quant";
  return folder;
}

struct Golden {
  int64_t in = 0;
  int64_t out = 0;
  int groups = 1;
  uint64_t hash = 0;
  HfConfig config;
};

std::map<std::string, Golden> ReadGoldenCases() {
  const std::string path = DataFolder() + "/cases.json";
  const auto file = MappedFile::Open(path);
  const auto document = JsonDocument::Parse(file->text(), path);
  std::map<std::string, Golden> cases;
  const Status status =
      document->root().Object()->ForEach([&](std::string_view name, const JsonValue& value) {
        const JsonObject object = *value.Object();
        Golden& golden = cases[std::string(name)];
        golden.in = *object.Get("in")->Int();
        golden.out = *object.Get("out")->Int();
        if (const auto groups = object.Find("groups")) {
          golden.groups = static_cast<int>(*groups->Int());
        }
        golden.hash = std::stoull(std::string(*object.Get("hash")->String()), nullptr, 16);
        const JsonObject config = *object.Get("config")->Object();
        const JsonObject quantization = *config.Get("quantization_config")->Object();
        golden.config.quant_method = *quantization.Get("quant_method")->String();
        golden.config.quant = {object.Get("config")->Minified(), "config.json"};
        return Status();
      });
  EXPECT_TRUE(status);
  return cases;
}

const std::map<std::string, Golden>& GoldenCases() {
  static const std::map<std::string, Golden> cases = ReadGoldenCases();
  return cases;
}

/// Of the values' bits; a zero has no sign.
uint64_t Fnv1a(std::span<const float> values) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value == 0 ? 0.0F : value);
    for (int i = 0; i < 4; ++i) hash = (hash ^ (bits >> (8 * i) & 0xFFU)) * 0x100000001B3U;
  }
  return hash;
}

struct Loaded {
  QuantFormat format;
  float activation_scale = 0;
  std::vector<float> values;  ///< [out, in]
};

/// The parts, merged, from the checkpoint, by way of `format` if `keep`.
Result<Loaded> LoadParts(const std::string& folder, const HfConfig& config, int64_t in,
                         const std::vector<LinearPart>& parts, bool keep, int groups = 1) {
  GALE_ASSIGN_OR_RETURN(const auto backend, CreateBackend("cpu", {.threads = 2}));
  GALE_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder));
  GALE_ASSIGN_OR_RETURN(const auto scheme, MakeQuantScheme(config, checkpoint.get()));
  ParamBuilder builder(DType::kF32, Numerics::kBatchInvariant);
  LinearShape shape{in, 0, DType::kF32, groups};
  for (const LinearPart& part : parts) shape.out += part.out;
  for (const auto& [name, golden] : GoldenCases()) {
    const auto is_it = [&](const LinearPart& part) { return part.name == name; };
    if (std::ranges::none_of(parts, is_it)) {
      builder.IgnorePrefix(name + ".");
      builder.IgnorePrefix(name + "_");
    }
  }
  const MergedWeight merged(*scheme, shape, parts);
  Loaded loaded;
  merged.Declare(builder, [&](BindContext& context, std::vector<RawParam> params) -> Status {
    GALE_ASSIGN_OR_RETURN(const CanonicalWeight weight,
                          merged.Bind(context, params, [&](const QuantFormat&) { return keep; }));
    loaded.format = weight.weight.format;
    loaded.activation_scale = weight.weight.activation_scale;
    loaded.values.resize(static_cast<size_t>(shape.in * shape.out));
    ThreadPool threads(1);
    Dequantize(weight.weight, TensorView(loaded.values.data(), DType::kF32, {shape.out, in}),
               threads);
    return {};
  });
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), *backend, {}));
  return loaded;
}

class FormatTest : public testing::TestWithParam<std::string> {};

TEST_P(FormatTest, DequantizesAsItsPackageDoes) {
  const Golden& golden = GoldenCases().at(GetParam());
  for (const bool keep : {true, false}) {
    const auto loaded = LoadParts(DataFolder(), golden.config, golden.in,
                                  {{GetParam(), golden.out}}, keep, golden.groups);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(Fnv1a(loaded->values), golden.hash);
    EXPECT_EQ(loaded->format.code == BlockCode::kNone, !keep);
    EXPECT_EQ(keep && loaded->format.activation == ActivationCode::kTensor,
              loaded->activation_scale > 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FormatTest, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, golden] : GoldenCases()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& test) { return test.param; });

TEST(FormatsTest, FormatsSayWhatTheCheckpointHas) {
  const auto format = [](const std::string& name) {
    const Golden& golden = GoldenCases().at(name);
    return LoadParts(DataFolder(), golden.config, golden.in, {{name, golden.out}}, true)->format;
  };
  EXPECT_EQ(format("awq_g32"),
            (QuantFormat{.code = BlockCode::kScaled, .block = {1, 32}, .has_zeros = true}));
  EXPECT_EQ(format("gptq_order"),
            (QuantFormat{.code = BlockCode::kScaled, .block = {1, 32}, .has_permutation = true}));
  EXPECT_EQ(format("gptq_8_g64"),
            (QuantFormat{.code = BlockCode::kScaled, .codes = CodeType::kInt8, .block = {1, 64}}));
  EXPECT_EQ(format("fp8_block"), (QuantFormat{.code = BlockCode::kScaled,
                                              .codes = CodeType::kF8E4M3,
                                              .block = {8, 16},
                                              .activation = ActivationCode::kGroup}));
  EXPECT_EQ(format("ct_int8"), (QuantFormat{.code = BlockCode::kScaled,
                                            .codes = CodeType::kInt8,
                                            .activation = ActivationCode::kRow}));
  EXPECT_EQ(format("fp8_static").activation, ActivationCode::kTensor);
}

TEST(FormatsTest, PartsOfOneFormatAreOneWeight) {
  for (const std::string name : {"awq_g32", "gptq_order_asym", "fp8_static", "fp8_block"}) {
    const Golden& golden = GoldenCases().at(name);
    const LinearPart part = {name, golden.out};
    const auto merged = LoadParts(DataFolder(), golden.config, golden.in, {part, part}, true);
    ASSERT_TRUE(merged) << merged.error().message;
    // The first part of blocks of 8 outputs ends within one.
    EXPECT_EQ(merged->format.code == BlockCode::kNone, name == "fp8_block");
    const size_t half = merged->values.size() / 2;
    EXPECT_EQ(Fnv1a(std::span(merged->values).first(half)), golden.hash);
    EXPECT_EQ(Fnv1a(std::span(merged->values).subspan(half)), golden.hash);
  }
}

/// A checkpoint of one golden layer, changed. A tensor that is given no bytes is left out.
class ChangedLayer {
 public:
  using Edit = std::function<void(TestTensor&)>;

  explicit ChangedLayer(const std::string& name, const Edit& edit = {}) { Add(name, name, edit); }

  void Add(const std::string& name, const std::string& new_name, const Edit& edit) {
    const auto checkpoint = Checkpoint::Open(DataFolder());
    for (const CheckpointTensor& tensor : (*checkpoint)->tensors()) {
      const bool is_stacked =
          tensor.name.starts_with(name + "_") && tensor.name.find('.') == std::string::npos;
      if (!tensor.name.starts_with(name + ".") && !is_stacked) continue;
      TestTensor changed = {
          tensor.name.substr(name.size()), tensor.dtype_name, tensor.shape,
          std::string(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size())};
      if (edit) edit(changed);
      changed.name = new_name + changed.name;
      if (!changed.bytes.empty()) tensors_.push_back(changed);
    }
    folder_.Write("model.safetensors", SafetensorsFile(tensors_));
  }
  const std::string& folder() const { return folder_.path(); }

 private:
  TestFolder folder_;
  std::vector<TestTensor> tensors_;
};

/// Replaces the element `index` of a tensor called `suffix`.
template <class T>
ChangedLayer::Edit SetElement(const std::string& suffix, size_t index, T value) {
  return [=](TestTensor& tensor) {
    if (tensor.name == suffix) std::memcpy(&tensor.bytes[index * sizeof(T)], &value, sizeof(T));
  };
}

TEST(FormatsTest, GroupsOfInputsThatDifferBetweenPartsArePlain) {
  const std::string name = "gptq_order_asym";
  const Golden& golden = GoldenCases().at(name);
  ChangedLayer layers(name);
  layers.Add(name, "b", [](TestTensor& tensor) {
    if (tensor.name != ".g_idx") return;
    std::vector<int32_t> groups(tensor.bytes.size() / 4);
    std::memcpy(groups.data(), tensor.bytes.data(), tensor.bytes.size());
    std::ranges::reverse(groups);
    tensor.bytes = Bytes(groups);
  });
  const std::vector<LinearPart> both = {{name, golden.out}, {"b", golden.out}};
  const auto merged = LoadParts(layers.folder(), golden.config, golden.in, both, true);
  ASSERT_TRUE(merged) << merged.error().message;
  EXPECT_EQ(merged->format.code, BlockCode::kNone);
  EXPECT_EQ(Fnv1a(std::span(merged->values).first(merged->values.size() / 2)), golden.hash);
  // Experts have inputs of their own, even where the groups happen to be the same.
  const auto experts = LoadParts(DataFolder(), golden.config, golden.in,
                                 {{name, golden.out}, {name, golden.out}}, true, 2);
  EXPECT_EQ(experts->format.code, BlockCode::kNone);
}

TEST(FormatsTest, LayersAreAsTheFileHasThem) {
  const Golden& golden = GoldenCases().at("awq_g32");
  ChangedLayer layer("awq_g32");
  const auto checkpoint = Checkpoint::Open(layer.folder());
  HfConfig config = golden.config;
  config.quant.json = R"({"quantization_config":{"bits":4,"group_size":32,
      "modules_to_not_convert":["awq_g32","mlp.gate"]}})";
  const auto from_file = MakeQuantScheme(config, checkpoint->get());
  EXPECT_NE((*from_file)->LayoutOf("awq_g32"), nullptr);
  const auto from_list = MakeQuantScheme(config, nullptr);
  EXPECT_EQ((*from_list)->LayoutOf("awq_g32"), nullptr);
  EXPECT_EQ((*from_list)->LayoutOf("model.layers.0.mlp.gate"), nullptr);
  EXPECT_NE((*from_list)->LayoutOf("model.layers.0.mlp.gate_proj"), nullptr);
  EXPECT_EQ((*from_list)->LayoutOf("lm_head"), nullptr);
}

TEST(FormatsTest, SomeLayersHaveParametersOfTheirOwn) {
  HfConfig config;
  config.quant_method = "gptq";
  config.quant.json = R"({"quantization_config":{"bits":4,"group_size":128,"sym":true,
      "lm_head":true,"dynamic":{"-:.*\\.1\\..*":{},"+:.*down_proj":{"bits":8,"group_size":32},
      "lm_head":{"sym":false}}}})";
  const auto scheme = MakeQuantScheme(config, nullptr);
  ASSERT_TRUE(scheme) << scheme.error().message;
  const LinearShape shape = {128, 8, DType::kF32};
  const auto format = [&](const char* layer) { return (*scheme)->LayoutOf(layer)->Format(shape); };
  EXPECT_EQ((*scheme)->LayoutOf("model.layers.1.mlp.down_proj"), nullptr);
  EXPECT_EQ(format("model.layers.0.mlp.up_proj").block.in, 128);
  EXPECT_EQ(format("model.layers.0.mlp.down_proj"),
            (QuantFormat{.code = BlockCode::kScaled, .codes = CodeType::kInt8, .block = {1, 32}}));
  EXPECT_TRUE(format("lm_head").has_zeros);
}

struct Mutation {
  const char* name;
  ChangedLayer::Edit edit;
  const char* message;
};

TEST(FormatsTest, RefusesWrongTensors) {
  const auto remove = [](const std::string& suffix) {
    return [=](TestTensor& tensor) {
      if (tensor.name == suffix) tensor.bytes.clear();
    };
  };
  const auto clear = [](const std::string& suffix) {
    return [=](TestTensor& tensor) {
      if (tensor.name == suffix) tensor.bytes.assign(tensor.bytes.size(), '\0');
    };
  };
  const uint16_t f16_nan = 0x7E00, f16_inf = 0x7C00, f16_zero = 0;
  const Mutation mutations[] = {
      {"awq_g32", SetElement(".scales", 3, f16_nan),
       "awq_g32: scales: expected scales that are positive numbers, got nan at [0, 3]"},
      {"awq_g32", SetElement(".scales", 17, f16_inf), "got inf at [1, 1]"},
      {"gptq_sym_g32", SetElement(".scales", 0, f16_zero), "got 0 at [0, 0]"},
      {"awq_g32", remove(".scales"), "missing awq_g32.scales: expected f32 [2, 16]"},
      {"awq_g32", remove(".qzeros"), "missing awq_g32.qzeros: expected i32 [2, 2]"},
      {"gptq_sym_g32", SetElement(".qzeros", 1, 0x77777770U),
       "gptq_sym_g32: qzeros: expected zeros of 7 everywhere, as sym is true, got 0 at [0, 8]"},
      {"gptq_sym_g32", SetElement(".g_idx", 5, int32_t{1}),
       "g_idx: expected group 0 for input 5, as desc_act is false, got 1"},
      {"gptq_order", SetElement(".g_idx", 0, int32_t{-1}),
       "g_idx: expected groups from 0 to 2, got -1 for input 0"},
      {"gptq_order", SetElement(".g_idx", 0, int32_t{99}),
       "expected groups from 0 to 2, got 99 for input 0"},
      {"fp8_block", SetElement(".weight_scale_inv", 0, uint16_t{0xBF80}),
       "weight_scale_inv: expected scales that are positive numbers, got -1 at [0, 0]"},
      {"fp8_static", remove(".input_scale"), "missing fp8_static.input_scale: expected f32 [1]"},
      {"fp8_static", SetElement(".input_scale", 0, -1.0F), "input_scale: expected scales"},
      {"fp8_dynamic", remove(".weight_scale"), "missing fp8_dynamic.weight_scale"},
      {"ct_w4_asym", remove(".weight_zero_point"), "missing ct_w4_asym.weight_zero_point"},
      {"ct_w4_order", clear(".weight_g_idx"),
       "weight_g_idx: expected 32 inputs in each group, got 0 in group 1"},
      {"bnb_nf4", SetElement(".weight.quant_map", 0, -2.0F),
       "weight.quant_map: expected the 16 levels of NF4"},
      {"bnb_nf4", SetElement(".weight.absmax", 2, INFINITY),
       "weight.absmax: expected numbers, got inf at [2]"},
      {"bnb_nf4", SetElement(".weight.quant_state.bitsandbytes__nf4", 0, 'x'),
       "bnb_nf4.weight.quant_state.bitsandbytes__nf4"},
      {"bnb_int8", SetElement(".SCB", 0, NAN), "SCB: expected scales"},
      {"mxfp4", SetElement("_scales", 9, '\xFF'),
       "scales: expected numbers, got one that is none at 9"},
  };
  for (const Mutation& mutation : mutations) {
    const ChangedLayer layer(mutation.name, mutation.edit);
    const Golden& golden = GoldenCases().at(mutation.name);
    for (const bool keep : {true, false}) {
      const auto loaded = LoadParts(layer.folder(), golden.config, golden.in,
                                    {{mutation.name, golden.out}}, keep, golden.groups);
      ASSERT_FALSE(loaded) << mutation.message;
      EXPECT_EQ(loaded.error().code, ErrorCode::kDataCorrupt);
      EXPECT_THAT(loaded.error().message, testing::HasSubstr(mutation.message));
    }
  }
}

TEST(FormatsTest, RefusesShapesThatDoNotFit) {
  HfConfig config = GoldenCases().at("awq_g32").config;
  config.quant.json = R"({"quantization_config":{"bits":4,"group_size":48}})";
  const auto loaded = LoadParts(DataFolder(), config, 64, {{"awq_g32", 16}}, true);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message,
              testing::HasSubstr("awq_g32: expected inputs that groups of 48 divide, got 64"));
}

TEST(FormatsTest, RefusesConfigurationsItHasNoCodeFor) {
  struct Case {
    const char* method;
    const char* config;
    const char* message;
  };
  const Case cases[] = {
      {"awq", R"({"group_size":32})", "quantization_config.bits: missing"},
      {"awq", R"({"bits":3,"group_size":32})",
       "bits: expected 4, got 3 (nothing else is supported)"},
      {"awq", R"({"bits":4,"group_size":100})", "expected -1 or a multiple of 8, got 100"},
      {"awq", R"({"bits":4,"group_size":0})", "expected -1 or a multiple of 8, got 0"},
      {"awq", R"({"bits":4,"group_size":32,"version":"gemv"})", "version: expected \"gemm\""},
      {"awq", R"({"bits":4,"group_size":32,"zero_point":false})", "zero_point: expected true"},
      {"awq", R"({"bits":4,"group_size":32,"modules_to_not_convert":[3]})",
       "modules_to_not_convert[0]: expected a string"},
      {"awq", R"({"bits":4,"group_size":32,"modules_to_not_convert":["re:("]})",
       "expected a regular expression"},
      {"gptq", R"({"bits":2,"group_size":128})", "bits: expected 4 or 8, got 2"},
      {"gptq", R"({"bits":4,"group_size":128,"checkpoint_format":"marlin"})",
       "checkpoint_format: expected \"gptq\" or \"gptq_v2\", got \"marlin\""},
      {"gptq", R"({"bits":4,"group_size":128,"dynamic":{"+:x":{"bits":3}}})",
       "dynamic.+:x.bits: expected 4 or 8, got 3"},
      {"gptq", R"({"bits":4,"group_size":128,"dynamic":{"-:(":{}}})",
       "expected a regular expression"},
      {"fp8", R"({"fmt":"e5m2"})", "fmt: expected \"e4m3\""},
      {"fp8", R"({"weight_block_size":[128]})", "weight_block_size: expected [rows, columns]"},
      {"fp8", R"({"weight_block_size":[0,128]})", "weight_block_size[0]: expected"},
      {"fp8", R"({"weight_block_size":[128,128],"activation_scheme":"static"})",
       "activation_scheme: expected \"dynamic\", as weights are in blocks"},
      {"bitsandbytes", R"({"load_in_4bit":true,"bnb_4bit_quant_type":"fp4"})",
       "bnb_4bit_quant_type: expected \"nf4\""},
      {"bitsandbytes", R"({"load_in_4bit":false})", "expected true, or load_in_8bit to be"},
      {"compressed-tensors", R"({"format":"pack-quantized"})", "config_groups: missing"},
      {"compressed-tensors", R"({"format":"nvfp4-pack-quantized","config_groups":{"g":{"targets":[],
          "weights":{"num_bits":4,"type":"int","strategy":"channel"}}}})",
       "format: expected \"pack-quantized\" or \"int-quantized\""},
      {"compressed-tensors", R"({"format":"pack-quantized","config_groups":{"g":{"targets":[],
          "weights":{"num_bits":2,"type":"int","strategy":"channel"}}}})",
       "config_groups.g.weights.num_bits: expected 4 or 8, got 2"},
      {"compressed-tensors", R"({"format":"float-quantized","config_groups":{"g":{"targets":[],
          "weights":{"num_bits":4,"type":"float","strategy":"tensor"}}}})",
       "num_bits: expected 8, got 4"},
      {"compressed-tensors", R"({"format":"float-quantized","config_groups":{"g":{"targets":[],
          "weights":{"num_bits":8,"type":"float","strategy":"tensor_group"}}}})",
       "strategy: expected \"tensor\" or \"channel\" or \"block\""},
      {"compressed-tensors", R"({"format":"dense","sparsity_config":{"format":"marlin-24"},
          "config_groups":{}})",
       "sparsity_config.format: expected \"dense\""},
  };
  for (const Case& wrong : cases) {
    HfConfig config;
    config.quant_method = wrong.method;
    config.quant.source = "config.json";
    config.quant.json = std::string(R"({"quantization_config":)") + wrong.config + "}";
    const auto scheme = MakeQuantScheme(config, nullptr);
    ASSERT_FALSE(scheme) << wrong.config;
    EXPECT_THAT(scheme.error().message, testing::HasSubstr("config.json: quantization_config."));
    EXPECT_THAT(scheme.error().message, testing::HasSubstr(wrong.message));
  }
}

}  // namespace
}  // namespace gale
