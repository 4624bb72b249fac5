// Flags that every command with an engine shares.
#pragma once

#include <functional>
#include <memory>

#include <CLI/CLI.hpp>

#include "gale/llm_engine.h"

namespace gale::cli {

/// --device and --threads.
void AddDeviceFlags(CLI::App& command, EngineConfig& config);
/// --dtype, --quantize: in what numbers a model computes and remembers.
void AddPrecisionFlags(CLI::App& command, EngineConfig& config);

/// Binds the model (see model_argument.h; unless the command has a --model already), the
/// flags above and all others to `config`, which must outlive the parsing.
void AddEngineFlags(CLI::App& command, EngineConfig& config);

/// What LoadEngine says on standard error beside its progress bar.
enum class LoadNotes { kMemoryAndDevice, kNone };

/// Loads the model behind a progress bar. `poll`, if given, is called as loading goes on.
Result<std::unique_ptr<LlmEngine>> LoadEngine(const EngineConfig& config,
                                              const std::function<void()>& poll = {},
                                              LoadNotes notes = LoadNotes::kMemoryAndDevice);

}  // namespace gale::cli
