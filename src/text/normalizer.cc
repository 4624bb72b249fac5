#include "text/normalizer.h"

#include <cstdlib>

#include <utf8proc.h>

#include "text/component.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown = "NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence";

/// Nothing below U+00A0 changes in any form, and nothing below U+0300 in NFC.
bool IsInert(std::string_view text, uint8_t first_lead_that_matters) {
  for (const char c : text) {
    if (static_cast<uint8_t>(c) >= first_lead_that_matters) return false;
  }
  return true;
}

}  // namespace

Result<Normalizer> Normalizer::Parse(const JsonValue& value) {
  Normalizer normalizer;
  GALE_RETURN_IF_ERROR(
      ForEachPart(value, "normalizers", [&](const JsonValue& at, const Component& part) -> Status {
        const JsonObject& object = part.object;
        if (part.type == "NFC") {
          normalizer.steps_.emplace_back(UnicodeForm::kNfc);
        } else if (part.type == "NFD") {
          normalizer.steps_.emplace_back(UnicodeForm::kNfd);
        } else if (part.type == "NFKC") {
          normalizer.steps_.emplace_back(UnicodeForm::kNfkc);
        } else if (part.type == "NFKD") {
          normalizer.steps_.emplace_back(UnicodeForm::kNfkd);
        } else if (part.type == "Prepend") {
          GALE_ASSIGN_OR_RETURN(const JsonValue prefix, object.Get("prepend"));
          GALE_ASSIGN_OR_RETURN(const std::string_view text, prefix.String());
          normalizer.steps_.emplace_back(Prepend{std::string(text)});
        } else if (part.type == "Replace") {
          GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, object.Get("pattern"));
          GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
          GALE_ASSIGN_OR_RETURN(const JsonValue content, object.Get("content"));
          GALE_ASSIGN_OR_RETURN(const std::string_view text, content.String());
          normalizer.steps_.emplace_back(Replace{std::move(pattern), std::string(text)});
        } else {
          return UnknownType(at, part.type, kKnown);
        }
        return {};
      }));
  return normalizer;
}

std::string Normalizer::Normalize(std::string text) const {
  for (const Step& step : steps_) {
    text = std::visit([&](const auto& s) { return Apply(s, std::move(text)); }, step);
  }
  return text;
}

std::string Normalizer::Apply(UnicodeForm form, std::string text) {
  if (IsInert(text, form == UnicodeForm::kNfc ? 0xCC : 0xC2)) return text;
  int options = UTF8PROC_STABLE;
  const bool composed = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  options |= composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  if (size < 0) return text;
  std::string out(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
  return out;
}

std::string Normalizer::Apply(const Prepend& prepend, std::string text) {
  if (!text.empty()) text.insert(0, prepend.prefix);
  return text;
}

std::string Normalizer::Apply(const Replace& replace, std::string text) {
  return replace.pattern.ReplaceAll(text, replace.content);
}

}  // namespace gale::text
