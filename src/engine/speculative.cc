#include "gale/speculative.h"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace gale {
namespace {

constexpr std::array<std::pair<std::string_view, Speculation>, 7> kNames = {
    {{"off", Speculation::kOff},
     {"auto", Speculation::kAuto},
     {"ngram", Speculation::kNgram},
     {"draft", Speculation::kDraft},
     {"eagle", Speculation::kEagle},
     {"medusa", Speculation::kMedusa},
     {"mtp", Speculation::kMtp}}};

bool HasModel(Speculation method) {
  return method == Speculation::kDraft || method == Speculation::kEagle ||
         method == Speculation::kMedusa;
}

}  // namespace

std::string_view SpeculationName(Speculation method) {
  for (const auto& [name, value] : kNames) {
    if (value == method) return name;
  }
  return {};
}

Result<Speculation> ParseSpeculation(std::string_view name) {
  for (const auto& [known, value] : kNames) {
    if (known == name) return value;
  }
  return MakeError(
      ErrorCode::kInvalidArgument,
      fmt::format("speculative: expected off, auto, ngram, draft, eagle, medusa or mtp; got "
                  "'{}'",
                  name));
}

Result<SpeculativeConfig> ParseSpeculativeConfig(std::string_view text) {
  SpeculativeConfig config;
  const size_t colon = text.find(':');
  const Result<Speculation> method = ParseSpeculation(text.substr(0, colon));
  if (!method || HasModel(*method) != (colon != std::string_view::npos) ||
      colon == text.size() - 1) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("speculative: expected off, auto, ngram, mtp, or draft:MODEL, eagle:DIR "
                    "or medusa:DIR with a folder or name as of --model; got '{}'",
                    text));
  }
  config.method = *method;
  if (colon != std::string_view::npos) config.model = text.substr(colon + 1);
  return config;
}

}  // namespace gale
