#include "text/normalizer.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include <utf8proc.h>

#include "text/base64.h"
#include "text/byte_level.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown =
    "BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Precompiled, Prepend, Replace, "
    "Sequence, Strip, StripAccents";

// SentencePiece's rules were made for at most this many bytes at once; see Apply(Precompiled).
constexpr size_t kMaxRuleGraphemeBytes = 5;

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

/// The end of characters from `pos` on that are inert by their first bytes: those below U+0300,
/// from U+4000 to U+9FFF and from U+FF00 on, where full-width letters and U+FFFD are.
size_t EndOfCertainlyInert(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    const auto lead = static_cast<uint8_t>(text[pos]);
    if (lead < 0xCC) {
      ++pos;  // bytes that continue a character are below 0xCC too
    } else if ((lead >= 0xE4 && lead <= 0xE9) ||
               (lead == 0xEF && static_cast<uint8_t>(text[pos + 1]) >= 0xBC)) {
      pos += 3;
    } else {
      break;
    }
  }
  return pos;
}

/// NFC that maps only the stretches that composition could touch: a character that is not inert,
/// with the one before it.
std::string Compose(std::string text) {
  std::string out;
  size_t done = 0;
  size_t previous = 0;
  for (size_t pos = 0; pos < text.size();) {
    if (const size_t end = EndOfCertainlyInert(text, pos); end > pos) {
      pos = previous = end;
      do --previous;
      while ((static_cast<uint8_t>(text[previous]) & 0xC0) == 0x80);
      continue;
    }
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

/// Rewrites character by character: map(code point, character, out) appends what one becomes.
template <class Map>
std::string MapCharacters(std::string_view text, Map&& map) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    map(c.code_point, text.substr(pos, c.size), &out);
    pos += c.size;
  }
  return out;
}

/// The blocks that BERT takes for Chinese (github.com/google-research/bert, tokenization.py),
/// with the begin of extension E as `tokenizers` has it.
bool IsIdeograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/// Where the text behind leading white space begins, and where that before trailing white space
/// ends; of white space alone, at its end and at its begin.
std::pair<size_t, size_t> WithoutOuterWhiteSpace(std::string_view text) {
  size_t begin = text.size();
  size_t end = 0;
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (!IsWhiteSpace(c.code_point)) {
      begin = std::min(begin, pos);
      end = pos + c.size;
    }
    pos += c.size;
  }
  return {begin, end};
}

/// Bytes of the extended grapheme cluster (UAX #29) at the front of `text`.
size_t GraphemeSize(std::string_view text) {
  utf8proc_int32_t state = 0;
  Utf8Char left = DecodeUtf8(text);
  size_t size = left.size;
  while (size < text.size()) {
    const Utf8Char right = DecodeUtf8(text.substr(size));
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(left.code_point),
                                         static_cast<utf8proc_int32_t>(right.code_point), &state)) {
      break;
    }
    size += right.size;
    left = right;
  }
  return size;
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
        GALE_ASSIGN_OR_RETURN(Step step, ParseStep(at, part.type, part.object));
        normalizer.steps_.push_back(std::move(step));
        return {};
      }));
  return normalizer;
}

Result<Normalizer::Step> Normalizer::ParseStep(const JsonValue& at, std::string_view type,
                                               const JsonObject& object) {
  if (type == "NFC") return UnicodeForm::kNfc;
  if (type == "NFD") return UnicodeForm::kNfd;
  if (type == "NFKC") return UnicodeForm::kNfkc;
  if (type == "NFKD") return UnicodeForm::kNfkd;
  if (type == "Lowercase") return Lowercase{};
  if (type == "StripAccents") return StripAccents{};
  if (type == "ByteLevel") return ByteLevel{};
  if (type == "Replace") return ParseReplace(object);
  if (type == "BertNormalizer") return ParseBert(object);
  if (type == "Precompiled") return ParsePrecompiled(object);
  if (type == "Prepend") {
    GALE_ASSIGN_OR_RETURN(const JsonValue prefix, object.Get("prepend"));
    GALE_ASSIGN_OR_RETURN(const std::string_view text, prefix.String());
    return Prepend{std::string(text)};
  }
  if (type == "Strip") {
    GALE_ASSIGN_OR_RETURN(const bool left, BoolOr(object, "strip_left", true));
    GALE_ASSIGN_OR_RETURN(const bool right, BoolOr(object, "strip_right", true));
    return Strip{left, right};
  }
  return UnknownType(at, type, kKnown);
}

Result<Normalizer::Step> Normalizer::ParseReplace(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue pattern_value, object.Get("pattern"));
  GALE_ASSIGN_OR_RETURN(Pattern pattern, Pattern::Parse(pattern_value));
  GALE_ASSIGN_OR_RETURN(const JsonValue content, object.Get("content"));
  GALE_ASSIGN_OR_RETURN(const std::string_view text, content.String());
  return Replace{std::move(pattern), std::string(text)};
}

Result<Normalizer::Step> Normalizer::ParseBert(const JsonObject& object) {
  Bert bert{};
  GALE_ASSIGN_OR_RETURN(bert.clean_text, BoolOr(object, "clean_text", true));
  GALE_ASSIGN_OR_RETURN(bert.handle_chinese_chars, BoolOr(object, "handle_chinese_chars", true));
  GALE_ASSIGN_OR_RETURN(bert.lowercase, BoolOr(object, "lowercase", true));
  GALE_ASSIGN_OR_RETURN(bert.strip_accents, BoolOr(object, "strip_accents", bert.lowercase));
  return bert;
}

Result<Normalizer::Step> Normalizer::ParsePrecompiled(const JsonObject& object) {
  const auto value = object.Find("precompiled_charsmap");
  if (!value) return Precompiled{};
  GALE_ASSIGN_OR_RETURN(const std::string_view base64, value->String());
  const std::optional<std::string> blob = DecodeBase64(base64);
  if (!blob) return tl::unexpected(value->Wrong("base64"));
  Result<Charsmap> charsmap = Charsmap::Parse(*blob);
  if (!charsmap) return tl::unexpected(value->Wrong(charsmap.error().message));
  return Precompiled{*std::move(charsmap)};
}

std::string Normalizer::Normalize(std::string text, bool at_text_start) const {
  if (sentencepiece_) return sentencepiece_->Normalize(text, at_text_start);
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

std::string Normalizer::Apply(const Bert& bert, std::string text) {
  if (bert.clean_text) {
    text = MapCharacters(text, [](char32_t c, std::string_view character, std::string* out) {
      if (IsWhiteSpace(c) && (!IsControl(c) || c == '\t' || c == '\n' || c == '\r')) {
        out->push_back(' ');
      } else if (!IsControl(c) && c != 0xFFFD) {
        out->append(character);
      }
    });
  }
  if (bert.handle_chinese_chars) {
    text = MapCharacters(text, [](char32_t c, std::string_view character, std::string* out) {
      const bool apart = IsIdeograph(c);
      if (apart) out->push_back(' ');
      out->append(character);
      if (apart) out->push_back(' ');
    });
  }
  if (bert.strip_accents) {
    text = MapCharacters(MapUnicode(text, UTF8PROC_DECOMPOSE),
                         [](char32_t c, std::string_view character, std::string* out) {
                           if (!IsNonspacingMark(c)) out->append(character);
                         });
  }
  return bert.lowercase ? Apply(Lowercase{}, std::move(text)) : text;
}

std::string Normalizer::Apply(const Lowercase& /*lowercase*/, std::string text) {
  return MapCharacters(text, [](char32_t c, std::string_view /*character*/, std::string* out) {
    AppendLowercase(c, out);
  });
}

std::string Normalizer::Apply(const Strip& strip, std::string text) {
  const auto [begin, end] = WithoutOuterWhiteSpace(text);
  if (strip.right) text.resize(end);
  if (strip.left) text.erase(0, std::min(begin, text.size()));
  return text;
}

std::string Normalizer::Apply(const StripAccents& /*strip_accents*/, std::string text) {
  return MapCharacters(text, [](char32_t c, std::string_view character, std::string* out) {
    if (!IsMark(c)) out->append(character);
  });
}

std::string Normalizer::Apply(const ByteLevel& /*byte_level*/, std::string text) {
  std::string out;
  AppendByteLevel(text, &out);
  return out;
}

// `tokenizers` asks for a rule for each short grapheme as a whole, else for its characters, and
// where a rule matches the beginning only, it still replaces all that it asked for.
std::string Normalizer::Apply(const Precompiled& precompiled, std::string text) {
  const Charsmap& charsmap = precompiled.charsmap;
  std::string out;
  out.reserve(text.size());
  const std::string_view all = text;
  for (size_t pos = 0; pos < all.size();) {
    const std::string_view grapheme = all.substr(pos, GraphemeSize(all.substr(pos)));
    pos += grapheme.size();
    if (grapheme.size() <= kMaxRuleGraphemeBytes) {
      if (const auto rule = charsmap.Shortest(grapheme)) {
        out += rule->replacement;
        continue;
      }
    }
    for (size_t i = 0; i < grapheme.size();) {
      const std::string_view character = grapheme.substr(i, Utf8Size(grapheme[i]));
      const auto rule = charsmap.Shortest(character);
      out += rule ? rule->replacement : character;
      i += character.size();
    }
  }
  return out;
}

}  // namespace gale::text
