// Sampling parameters as flags and as fields of a JSONL line; what is not given keeps the model's
// own default (generation_config.json).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <boost/json/object.hpp>

#include "gale/sampling_params.h"

namespace gale::cli {

class SamplingOverrides {
 public:
  template <class T>
  void Set(std::string_view name, T SamplingParams::* member, T value) {
    changes_[std::string(name)] = [member, value = std::move(value)](SamplingParams& params) {
      params.*member = value;
    };
  }
  bool Has(std::string_view name) const { return changes_.contains(name); }

  SamplingParams Over(SamplingParams defaults) const {
    for (const auto& [name, change] : changes_) change(defaults);
    return defaults;
  }

 private:
  std::map<std::string, std::function<void(SamplingParams&)>, std::less<>> changes_;
};

/// Binds --temperature, --top-k, ... to `overrides`, which must outlive the parsing.
void AddSamplingFlags(CLI::App& command, SamplingOverrides& overrides);

/// Takes one field of a JSON object. False when no parameter has that name.
/// Errors: kInvalidArgument when the value has the wrong type.
Result<bool> ReadSamplingField(std::string_view key, const boost::json::value& value,
                               SamplingOverrides& overrides);

/// The parameters that differ from SamplingParams' own defaults, and temperature, top_k, top_p,
/// min_p and max_tokens.
boost::json::object SamplingRecord(const SamplingParams& params);

}  // namespace gale::cli
