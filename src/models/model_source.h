// Finds what EngineConfig::model names (folder, config.json, preset) and reads its configuration.
#pragma once

#include <string>

#include "gale/engine_config.h"
#include "gale/status.h"
#include "weights/generation_config.h"
#include "weights/hf_config.h"

namespace gale {

struct ModelSource {
  std::string folder;  ///< of the checkpoint, or its GGUF file; empty for a preset or config.json
  HfConfig config;
  GenerationConfig generation;  ///< eos_token_ids fall back to config.json's
};

/// `model` is a path or a preset: what ResolveModel gives.
/// Errors: kNotFound, listing the presets; those of ParseHfConfig and ParseGenerationConfig.
Result<ModelSource> ReadModelSource(const std::string& model);

/// The dtype to compute in: the one asked for, or with kAuto the checkpoint's. float16 checkpoints
/// run in f32, which holds their values exactly; bf16 would not.
DType ResolveDType(ModelDType asked, DType checkpoint);

}  // namespace gale
