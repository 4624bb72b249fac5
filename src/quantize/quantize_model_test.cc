#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "base/status_macros.h"
#include "gale/eval.h"
#include "gale/quantize.h"
#include "quantize/calibration.h"
#include "quantize/observing_backend.h"
#include "weights/checkpoint_test_support.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

const std::string kRoot = GALE_SOURCE_DIR;
const std::string kModel = kRoot + "/tests/data/e2e/tiny-chat";

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class QuantizeModelTest : public testing::Test {
 protected:
  QuantizeOptions Options(const std::string& scheme, const std::string& name) {
    QuantizeOptions options;
    options.model = kModel;
    options.out = folder_.path() + "/" + name;
    options.scheme = scheme;
    options.group_size = 16;
    options.calibration_text = text_;
    options.samples = 8;
    options.sample_tokens = 32;
    return options;
  }
  double Divergence(const std::string& out) {
    CompareOptions compare;
    compare.base.model = kModel;
    compare.base.device = "cpu";
    compare.base.dtype = ModelDType::kF32;
    compare.other = compare.base;
    compare.other.model = out;
    compare.window = 64;
    const auto result = CompareModels(compare, text_.substr(0, 400));
    EXPECT_TRUE(result) << result.error().message;
    return result ? result->kl_mean : 0;
  }

  TestFolder folder_;
  std::string text_ = ReadAll(kRoot + "/tests/data/e2e/text.txt");
};

TEST_F(QuantizeModelTest, EverySchemeMakesACheckpointThatLoads) {
  for (const QuantizeSchemeInfo& scheme : ListQuantizeSchemes()) {
    const std::string name(scheme.name);
    if (name.starts_with("q")) continue;  // GGUF: tests/e2e has a model of such sizes
    const QuantizeOptions options = Options(name, name);
    const auto report = QuantizeModel(options);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_GT(report->num_quantized, 0);
    EXPECT_EQ(report->num_passes, scheme.calibrates ? 1 : 0) << name;
    EXPECT_FALSE(fs::exists(options.out + "/quantize.run"));
    EXPECT_EQ(ReadAll(options.out + "/tokenizer.json"), ReadAll(kModel + "/tokenizer.json"));
    const double kl = Divergence(options.out);
    EXPECT_GT(kl, 0) << name;
    EXPECT_LT(kl, 0.3) << name;
    EngineConfig config;
    config.model = options.out;
    config.device = "cpu";
    EXPECT_EQ(CheckQuantizedKernels(config).value_or("error"), "") << name;
  }
}

/// A CPU whose linear layers read inputs in the wrong order.
Result<std::unique_ptr<Backend>> MakeReversedBackend(const BackendOptions& options) {
  static std::unique_ptr<Backend> cpu;
  GALE_ASSIGN_OR_RETURN(cpu, CreateBackend("cpu", options));
  auto backend = std::make_unique<ObservingBackend>(*cpu);
  backend->set_observer([](Stream&, const void*, const TensorView& rows) {
    auto* x = static_cast<uint16_t*>(rows.data);
    std::reverse(x, x + rows.NumElements());
  });
  return backend;
}
const bool registered = RegisterBackend("reversed", MakeReversedBackend);

TEST_F(QuantizeModelTest, TheCanarySeesAWrongKernel) {
  ASSERT_TRUE(registered);
  EngineConfig config;
  config.model = kModel;
  config.device = "reversed";
  EXPECT_EQ(CheckQuantizedKernels(config).value_or("error"), "");  // nothing is quantized
  config.model = Options("awq", "canary").out;
  ASSERT_TRUE(QuantizeModel(Options("awq", "canary")));
  const auto fault = CheckQuantizedKernels(config);
  ASSERT_TRUE(fault) << fault.error().message;
  EXPECT_NE(fault->find("computes with its awq weights otherwise"), std::string::npos) << *fault;
}

TEST_F(QuantizeModelTest, AnInterruptedRunGoesOn) {
  const QuantizeOptions whole = Options("gptq", "whole");
  ASSERT_TRUE(QuantizeModel(whole));
  const QuantizeOptions cut = Options("gptq", "cut");
  ASSERT_TRUE(QuantizeModel(cut));
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(cut.out)) {
    if (entry.path().extension() == ".safetensors") shards.push_back(entry.path());
  }
  std::ranges::sort(shards);
  // As if it had been killed in the second layer.
  const QuantizeOptions started = Options("gptq", "started");
  QuantizeOptions refused = Options("awq", "started");
  fs::create_directories(started.out);
  fs::copy(shards[0], started.out);
  EXPECT_NE(QuantizeModel(started).error().message.find("exists"), std::string::npos);
  int layers = 0;
  fs::remove_all(started.out);
  const auto stopped = [&](QuantizePhase phase, uint64_t, uint64_t) {
    if (phase == QuantizePhase::kQuantizing && ++layers == 1) throw std::runtime_error("stop");
  };
  EXPECT_THROW((void)QuantizeModel(started, stopped), std::runtime_error);
  EXPECT_NE(QuantizeModel(refused).error().message.find("other options"), std::string::npos);
  const auto report = QuantizeModel(started);
  ASSERT_TRUE(report) << report.error().message;
  for (const fs::path& shard : shards) {
    const std::string name = shard.filename();
    EXPECT_EQ(ReadAll(started.out + "/" + name), ReadAll(whole.out + "/" + name)) << name;
  }
}

TEST_F(QuantizeModelTest, LittleMemoryTakesMorePassesToTheSameResult) {
  const QuantizeOptions one = Options("awq", "one");
  QuantizeOptions many = Options("awq", "many");
  many.statistics_bytes = 1;
  ASSERT_TRUE(QuantizeModel(one));
  const auto report = QuantizeModel(many);
  ASSERT_TRUE(report);
  EXPECT_GT(report->num_passes, 1);
  for (const auto& entry : fs::directory_iterator(one.out)) {
    const std::string name = entry.path().filename();
    EXPECT_EQ(ReadAll(entry.path()), ReadAll(many.out + "/" + name)) << name;
  }
}

TEST_F(QuantizeModelTest, BadInputIsNamed) {
  const auto message = [](const QuantizeOptions& options) {
    const auto report = QuantizeModel(options);
    return report ? std::string("no error") : report.error().message;
  };
  EXPECT_NE(message(Options("int3", "x")).find("expected one of awq, gptq"), std::string::npos);
  QuantizeOptions options = Options("int4", "x");
  options.group_size = 48;
  EXPECT_NE(message(options).find("group size 48: expected one that divides"), std::string::npos)
      << message(options);
  options = Options("awq", "x");
  options.samples = 100000;
  EXPECT_NE(message(options).find("calibration text is too short"), std::string::npos);
  options = Options("int4", "x");
  options.model = kRoot + "/tests/data/gguf/nothing";
  EXPECT_NE(message(options).find("no such model"), std::string::npos) << message(options);
  EXPECT_FALSE(fs::exists(options.out));
}

TEST(DrawSequencesTest, StretchesDoNotOverlapAndFollowTheSeed) {
  std::vector<TokenId> tokens(1000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i);
  const auto one = DrawSequences(tokens, 20, 40, 1);
  ASSERT_TRUE(one);
  std::set<TokenId> seen;
  for (const auto& sequence : *one) seen.insert(sequence.begin(), sequence.end());
  EXPECT_EQ(seen.size(), 800U);
  EXPECT_EQ(*one, *DrawSequences(tokens, 20, 40, 1));
  EXPECT_NE(*one, *DrawSequences(tokens, 20, 40, 2));
}

}  // namespace
}  // namespace gale
