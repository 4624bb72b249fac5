#include "cli/sampling_flags.h"

#include <type_traits>
#include <utility>

#include <boost/json/value_to.hpp>
#include <fmt/format.h>

#include "cli/whole_number.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

/// `visit(name, field)` for every parameter that a JSONL line may set.
template <class Visitor>
void ForEachField(SamplingOverrides& overrides, Visitor visit) {
  visit("temperature", overrides.temperature);
  visit("top_k", overrides.top_k);
  visit("top_p", overrides.top_p);
  visit("min_p", overrides.min_p);
  visit("max_tokens", overrides.max_tokens);
  visit("n", overrides.n);
  visit("seed", overrides.seed);
  visit("ignore_eos", overrides.ignore_eos);
  visit("stop", overrides.stop);
}

/// Whether `value` is what `T` needs, taken strictly: no number from a string, no int from 1.5.
template <class T>
bool Read(const json::value& value, std::optional<T>& field, const char*& expected) {
  boost::system::error_code error;
  if constexpr (std::is_same_v<T, bool>) {
    expected = "true or false";
    if (value.is_bool()) field = value.get_bool();
    return value.is_bool();
  } else if constexpr (std::is_floating_point_v<T>) {
    expected = "a number";
    if (!value.is_number()) return false;
    field = value.to_number<T>(error);
  } else if constexpr (std::is_integral_v<T>) {
    expected = "an integer";
    if (!value.is_int64() && !value.is_uint64()) return false;
    field = value.to_number<T>(error);
  } else {
    expected = "a string or an array of strings";
    if (value.is_string()) {
      field = T{json::value_to<std::string>(value)};
      return true;
    }
    if (!value.is_array()) return false;
    field.emplace();
    for (const json::value& item : value.get_array()) {
      if (!item.is_string()) return false;
      field->push_back(json::value_to<std::string>(item));
    }
  }
  return !error;
}

}  // namespace

SamplingParams SamplingOverrides::Over(SamplingParams defaults) const {
  SamplingParams params = std::move(defaults);
  params.temperature = temperature.value_or(params.temperature);
  params.top_k = top_k.value_or(params.top_k);
  params.top_p = top_p.value_or(params.top_p);
  params.min_p = min_p.value_or(params.min_p);
  params.max_tokens = max_tokens.value_or(params.max_tokens);
  params.n = n.value_or(params.n);
  params.ignore_eos = ignore_eos.value_or(params.ignore_eos);
  params.stop = stop.value_or(params.stop);
  if (seed) params.seed = seed;
  return params;
}

void AddSamplingFlags(CLI::App& command, SamplingOverrides& overrides) {
  const std::string group = "Sampling (defaults: the model's own, see gale info)";
  command.add_option("--temperature", overrides.temperature, "Divides the logits; 0 = greedy")
      ->type_name("T")
      ->group(group);
  command
      .add_flag_callback(
          "--greedy", [&overrides] { overrides.temperature = 0.0F; },
          "Always the likeliest token; same as --temperature 0")
      ->excludes(command.get_option("--temperature"))
      ->group(group);
  command.add_option("--top-k", overrides.top_k, "Keep the K likeliest tokens; 0 = all")
      ->type_name("K")
      ->check(WholeNumber(0))
      ->group(group);
  command
      .add_option("--top-p", overrides.top_p,
                  "Keep the smallest set of likeliest tokens with probability P; 1 = all")
      ->type_name("P")
      ->group(group);
  command
      .add_option("--min-p", overrides.min_p,
                  "Drop tokens under P times the likeliest one's probability; 0 = none")
      ->type_name("P")
      ->group(group);
  command.add_option("--max-tokens", overrides.max_tokens, "Stop after so many generated tokens")
      ->type_name("N")
      ->check(WholeNumber(0))
      ->group(group);
  command.add_option("--stop", overrides.stop, "Stop before this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->check([](const std::string& text) -> std::string {
        return text.empty() ? "expected at least one character, got none" : "";
      })
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group(group);
  command
      .add_flag_callback(
          "--ignore-eos", [&overrides] { overrides.ignore_eos = true; },
          "Go on past the model's end-of-text token")
      ->group(group);
  command.add_option("-n", overrides.n, "Independent samples of each prompt")
      ->type_name("N")
      ->check(WholeNumber(1))
      ->group(group);
}

Result<bool> ReadSamplingField(std::string_view key, const json::value& value,
                               SamplingOverrides& overrides) {
  bool known = false;
  bool well_typed = true;
  const char* expected = "";
  ForEachField(overrides, [&](std::string_view name, auto& field) {
    if (name != key) return;
    known = true;
    well_typed = Read(value, field, expected);
  });
  if (!well_typed) {
    return MakeError(ErrorCode::kInvalidArgument, fmt::format("\"{}\" must be {}", key, expected));
  }
  return known;
}

}  // namespace gale::cli
