// A model from a checkpoint folder, a config.json or a preset. Layer L3; called by engine/ and
// tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/backend.h"
#include "gale/engine_config.h"
#include "gale/status.h"
#include "models/model.h"
#include "weights/generation_config.h"
#include "weights/hf_config.h"
#include "weights/weight_loader.h"

namespace gale {

struct LoadOptions {
  std::string model;  ///< as EngineConfig::model
  LoadFormat format = LoadFormat::kAuto;
  ModelDType dtype = ModelDType::kAuto;
  LoadQuantization quantize = LoadQuantization::kNone;
  Numerics numerics = Numerics::kBatchInvariant;
  uint64_t seed = 0;  ///< of dummy weights
  /// Called with the declared model before any weight is read; an error ends the loading.
  std::function<Status(const Model&, const WeightBytes&)> on_declared = {};
  /// Positions that the model will be used for, which some rope scalings depend on; 0: its own.
  int max_model_len = 0;
};

struct LoadedModel {
  std::unique_ptr<Model> model;
  HfConfig config;
  /// Without a generation_config.json: SamplingParams' defaults. eos_token_ids are never empty
  /// when either file names one: config.json's stand in.
  GenerationConfig generation;
};

/// Reads configuration and headers, checks every parameter, then loads the weights.
/// `progress` (may be empty) is called on this thread with bytes done and in total.
/// Errors: kNotFound, kUnsupported (architecture; lists the known), kDataCorrupt (all missing,
/// unexpected, wrong-shape and wrong-dtype tensors in one message), kResourceExhausted.
Result<LoadedModel> LoadModel(const LoadOptions& options, Backend& backend,
                              const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace gale
