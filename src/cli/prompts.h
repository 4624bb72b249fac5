// From what the user typed, piped or put into a file to the requests of `gale run`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/sampling_flags.h"

namespace gale::cli {

struct Prompt {
  std::string text;
  SamplingOverrides sampling;  ///< over those of the command line
};

/// One {"prompt": "...", "temperature": 0.5, ...} per line; blank lines are skipped.
/// Errors: kInvalidArgument naming file and line for anything that is not exactly that.
Result<std::vector<Prompt>> ReadPromptFile(const std::string& path);

}  // namespace gale::cli
