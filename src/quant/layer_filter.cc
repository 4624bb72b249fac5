#include "quant/layer_filter.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/status_macros.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace gale {
namespace {

constexpr std::string_view kPatternMark = "re:";
constexpr size_t kMaxPatternBytes = 1 << 12;
constexpr uint32_t kMatchLimit = 100'000;  // steps; names are short

bool MatchesBeginning(const pcre2_code& code, std::string_view text) {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(context.get(), kMatchLimit);
  return pcre2_match(&code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                     PCRE2_ANCHORED, data.get(), context.get()) >= 0;
}

}  // namespace

Status LayerFilter::Add(std::string_view name, const JsonValue& source) {
  if (name.starts_with(kPatternMark)) {
    return AddPattern(name.substr(kPatternMark.size()), source);
  }
  names_.emplace_back(name);
  return {};
}

Status LayerFilter::AddPattern(std::string_view expression, const JsonValue& source) {
  int error = 0;
  size_t at = 0;
  pcre2_code* code = nullptr;
  if (expression.size() <= kMaxPatternBytes) {
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), 0,
                         &error, &at, nullptr);
  }
  if (code == nullptr) {
    return tl::unexpected(
        source.Wrong(fmt::format("a regular expression of at most {} bytes", kMaxPatternBytes)));
  }
  patterns_.emplace_back(code, pcre2_code_free);
  return {};
}

Status LayerFilter::AddAll(const JsonValue& names) {
  return names.ForEachItem([&](const JsonValue& item) -> Status {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, item.String());
    return Add(name, item);
  });
}

bool LayerFilter::Has(std::string_view layer) const {
  const std::string whole = fmt::format(".{}.", layer);
  return std::ranges::any_of(names_,
                             [&](const std::string& name) {
                               return whole.find(fmt::format(".{}.", name)) != std::string::npos;
                             }) ||
         std::ranges::any_of(patterns_,
                             [&](const auto& code) { return MatchesBeginning(*code, layer); });
}

}  // namespace gale
