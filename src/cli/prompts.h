// From what the user typed, piped or put into a file to the requests of `gale run`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>

#include "cli/sampling_flags.h"
#include "gale/llm_engine.h"

namespace gale::cli {

struct Prompt {
  std::string text;
  SamplingOverrides sampling;  ///< over those of the command line
};

/// One {"prompt": "...", "temperature": 0.5, ...} per line; blank lines are skipped.
/// Errors: kInvalidArgument naming file and line for anything that is not exactly that.
Result<std::vector<Prompt>> ReadPromptFile(const std::string& path);

/// The conversation as the model's chat template writes it, in tokens. Special tokens spelled out
/// in message contents stay text. Errors: kUnsupported when the model has no template; what the
/// template says.
Result<std::vector<TokenId>> RenderChat(const LlmEngine& engine, const boost::json::array& messages,
                                        const std::string& template_args);

}  // namespace gale::cli
