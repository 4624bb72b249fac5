// What an engine speculates with, from its configuration. Layer L5; called by LoadEngineParts.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "gale/engine_config.h"
#include "gale/model_info.h"
#include "runner/speculative/draft_proposer.h"

namespace gale {

/// Null without speculation. Resolves config.speculative. Loads a draft model's weights.
/// Errors: those of loading; kInvalidArgument when what guesses was made for another model.
Result<std::unique_ptr<DraftProposer>> LoadProposer(EngineConfig& config, const ModelInfo& target,
                                                    Backend& backend);

}  // namespace gale
