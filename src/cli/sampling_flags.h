// Sampling parameters as flags and as fields of a JSONL line; what is not given keeps the model's
// own default (generation_config.json).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>

#include "gale/sampling_params.h"

namespace gale::cli {

struct SamplingOverrides {
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<int> max_tokens;
  std::optional<int> n;
  std::optional<uint64_t> seed;  ///< JSONL only; on the command line --seed is the engine's
  std::optional<bool> ignore_eos;
  std::optional<std::vector<std::string>> stop;

  SamplingParams Over(SamplingParams defaults) const;
};

/// Binds --temperature, --top-k, ... to `overrides`, which must outlive the parsing.
void AddSamplingFlags(CLI::App& command, SamplingOverrides& overrides);

/// Takes one field of a JSON object. False when no parameter has that name.
/// Errors: kInvalidArgument when the value has the wrong type.
Result<bool> ReadSamplingField(std::string_view key, const boost::json::value& value,
                               SamplingOverrides& overrides);

}  // namespace gale::cli
