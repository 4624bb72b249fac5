#include "text/normalizer.h"

#include <cstdlib>

#include <utf8proc.h>

#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown = "NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence";

std::string MapUnicode(std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                   static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  if (size < 0) return std::string(text);  // out of memory; valid UTF-8 has no other failure
  std::string out(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
  return out;
}

/// NFC that maps only the stretches that composition could touch: a character that is not inert,
/// with the one before it.
std::string Compose(std::string text) {
  std::string out;
  size_t done = 0;
  size_t previous = 0;
  for (size_t pos = 0; pos < text.size();) {
    if (IsInertInNfc(CodePointAt(text, pos))) {
      previous = pos;
      pos += Utf8Size(text[pos]);
      continue;
    }
    while (pos < text.size() && !IsInertInNfc(CodePointAt(text, pos))) pos += Utf8Size(text[pos]);
    out.append(text, done, previous - done);
    out += MapUnicode(std::string_view(text).substr(previous, pos - previous), UTF8PROC_COMPOSE);
    done = previous = pos;
  }
  if (done == 0) return text;
  out.append(text, done);
  return out;
}

}  // namespace

bool IsInertInNfc(char32_t c) {
  // Most of what texts consist of; characters left out are only slower. Excluded are combining
  // marks, what composes with the character before it, and what NFC replaces (checked by
  // normalizer_test).
  if (c < 0x300) return true;
  return (c >= 0x388 && c <= 0x482) || (c >= 0x48A && c <= 0x590) || (c >= 0x2010 && c <= 0x20CF) ||
         (c >= 0x2150 && c <= 0x2328) || (c >= 0x232B && c <= 0x2ADB) ||
         (c >= 0x3001 && c <= 0x3029) || (c >= 0x3030 && c <= 0x3098) ||
         (c >= 0x309B && c <= 0xA66E) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0xFF00 && c <= 0xFFFD) ||
         (c >= 0x1F000 && c <= 0x1FAFF);
}

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
  switch (form) {
    case UnicodeForm::kNfc: return Compose(std::move(text));
    case UnicodeForm::kNfd: return MapUnicode(text, UTF8PROC_DECOMPOSE);
    case UnicodeForm::kNfkc: return MapUnicode(text, UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    case UnicodeForm::kNfkd: return MapUnicode(text, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  }
  return text;
}

std::string Normalizer::Apply(const Prepend& prepend, std::string text) {
  if (!text.empty()) text.insert(0, prepend.prefix);
  return text;
}

std::string Normalizer::Apply(const Replace& replace, std::string text) {
  return replace.pattern.ReplaceAll(text, replace.content);
}

}  // namespace gale::text
