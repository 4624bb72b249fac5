// What tests share that make a deliberate mistake and expect the golden comparison to notice it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "support/device_flag.h"
#include "support/edited_checkpoint.h"
#include "support/golden.h"
#include "support/model_harness.h"

namespace gale {

inline constexpr double kAllowed = 1e-4;  // of golden_test in f32
inline constexpr double kNoticed = 0.1;   // over golden_test's Bf16Tolerance(3) = 0.091

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

  /// The same of a checkpoint with something changed.
  double ErrorWith(const EditedCheckpoint::EditConfig& config,
                   const EditedCheckpoint::EditTensor& tensor) {
    const EditedCheckpoint edited(folder_, config, tensor);
    return Error(*Load(edited.folder()));
  }

  std::unique_ptr<Backend> backend_ = CreateTestBackend();
  std::string folder_ = GoldenFolder(GetParam());
  GoldenPrompt golden_ = ReadGoldens(folder_).back();
};

}  // namespace gale
