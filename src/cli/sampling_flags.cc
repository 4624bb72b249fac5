#include "cli/sampling_flags.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/json/value_from.hpp>
#include <fmt/format.h>

#include "cli/sampling_fields.h"
#include "cli/sampling_values.h"
#include "cli/whole_number.h"

namespace gale::cli {
namespace {

namespace json = boost::json;

std::string FlagName(std::string_view name) {
  std::string flag = "--" + std::string(name);
  std::ranges::replace(flag, '_', '-');
  return flag;
}

template <class T>
constexpr bool kIsList = false;
template <class T>
constexpr bool kIsList<std::vector<T>> = true;

template <class T>
void AddFlag(CLI::App& command, const SamplingField<T>& field, SamplingOverrides& overrides) {
  const auto take = [field, &overrides](const std::vector<std::string>& texts) {
    T value{};
    if (const Mismatch expected = FromTexts(texts, value)) {
      throw CLI::ValidationError(FlagName(field.name), fmt::format("expected {}; got {}", *expected,
                                                                   fmt::join(texts, " ")));
    }
    overrides.Set(field.name, field.member, std::move(value));
  };
  command.add_option_function<std::vector<std::string>>(FlagName(field.name), take, field.help)
      ->type_name(field.placeholder)
      ->expected(1)
      ->multi_option_policy(kIsList<T> ? CLI::MultiOptionPolicy::TakeAll
                                       : CLI::MultiOptionPolicy::Throw)
      ->group(field.group);
}

void AddFlag(CLI::App& command, const SamplingField<bool>& field, SamplingOverrides& overrides) {
  command
      .add_flag_callback(
          FlagName(field.name),
          [field, &overrides] { overrides.Set(field.name, field.member, true); }, field.help)
      ->group(field.group);
}

json::value ToJson(EarlyStopping value) { return json::value(EarlyStoppingName(value)); }
json::value ToJson(const std::vector<LogitBias>& biases) {
  json::object object;
  for (const LogitBias& entry : biases) object[std::to_string(entry.token)] = entry.bias;
  return object;
}
template <class T>
json::value ToJson(const T& value) {
  if constexpr (std::is_same_v<T, std::optional<int>>) {
    return value ? json::value(*value) : json::value();
  } else {
    return json::value_from(value);
  }
}

}  // namespace

void AddSamplingFlags(CLI::App& command, SamplingOverrides& overrides) {
  ForEachSamplingField([&](const auto& field) { AddFlag(command, field, overrides); });
  command
      .add_flag_callback(
          "--greedy",
          [&overrides] { overrides.Set("temperature", &SamplingParams::temperature, 0.0F); },
          "Always the likeliest token; same as --temperature 0")
      ->excludes(command.get_option("--temperature"))
      ->group(kSamplingGroup);
  command
      .add_option_function<int>(
          "-n", [&overrides](int n) { overrides.Set("n", &SamplingParams::n, n); },
          "Independent samples of each prompt")
      ->type_name("N")
      ->check(WholeNumber(1))
      ->group(kSearchGroup);
}

Result<bool> ReadSamplingField(std::string_view key, const json::value& value,
                               SamplingOverrides& overrides) {
  bool known = false;
  Mismatch expected;
  const auto read = [&](std::string_view name, auto member) {
    if (name != key) return;
    known = true;
    std::decay_t<decltype(SamplingParams().*member)> parsed{};
    expected = FromJson(value, parsed);
    overrides.Set(name, member, std::move(parsed));
  };
  ForEachSamplingField([&](const auto& field) { read(field.name, field.member); });
  read("n", &SamplingParams::n);
  // As flags these are the engine's.
  read("seed", &SamplingParams::seed);
  read("speculative", &SamplingParams::speculative);
  if (expected) {
    return MakeError(ErrorCode::kInvalidArgument, fmt::format("\"{}\" must be {}", key, *expected));
  }
  return known;
}

json::object SamplingRecord(const SamplingParams& params) {
  const SamplingParams defaults;
  json::object record;
  ForEachSamplingField([&](const auto& field) {
    const json::value value = ToJson(params.*field.member);
    const std::string_view name = field.name;
    const bool is_basic = field.group == kSamplingGroup || name == "max_tokens";
    if (is_basic || value != ToJson(defaults.*field.member)) record[name] = value;
  });
  return record;
}

}  // namespace gale::cli
