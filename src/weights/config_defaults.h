// What config.json may leave out, because the architecture's configuration class in transformers
// fills it in with values of its own. Layer L2 of the compute column; used by hf_config.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "gale/status.h"

namespace gale {

/// The members that describe the language model, as one JSON object: those of `root`, for a model
/// of text and images those of its text_config, and those that the architecture fills in.
Result<std::string> CompleteConfig(const JsonObject& root, std::string_view architecture);

}  // namespace gale
