#include "text/utf8.h"

#include <simdjson.h>
#include <utf8proc.h>

namespace gale::text {

Utf8Char DecodeUtf8(std::string_view text) {
  using State = Utf8Char::State;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {State::kValid, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {State::kInvalid, 1, 0};

  // The range of the second byte excludes overlong forms, surrogates and values over U+10FFFF
  // (Unicode Standard, table 3-7).
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t code_point = lead & (0x7F >> size);
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {State::kIncomplete, static_cast<uint8_t>(i), 0};
    if (byte(i) < low || byte(i) > high) return {State::kInvalid, static_cast<uint8_t>(i), 0};
    code_point = code_point << 6 | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {State::kValid, static_cast<uint8_t>(size), code_point};
}

char32_t CodePointAt(std::string_view valid_text, size_t pos) {
  return DecodeUtf8(valid_text.substr(pos)).code_point;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
    return;
  }
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

bool IsValidUtf8(std::string_view text) { return simdjson::validate_utf8(text); }

void AppendLossyUtf8(std::string_view text, std::string* out) {
  if (IsValidUtf8(text)) {
    out->append(text);
    return;
  }
  out->reserve(out->size() + 2 * text.size());  // what random bytes become
  size_t valid = 0;                             // from here on the text has been valid
  for (size_t pos = 0; pos < text.size();) {
    if (static_cast<uint8_t>(text[pos]) < 0x80) {
      ++pos;
      continue;
    }
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (c.state != Utf8Char::State::kValid) {
      out->append(text, valid, pos - valid);
      out->append(kReplacementCharacter);
      valid = pos + c.size;
    }
    pos += c.size;
  }
  out->append(text, valid);
}

size_t IncompleteSuffixSize(std::string_view text) {
  for (size_t size = 1; size <= 3 && size <= text.size(); ++size) {
    const auto byte = static_cast<uint8_t>(text[text.size() - size]);
    if ((byte & 0xC0) == 0x80) continue;
    const Utf8Char c = DecodeUtf8(text.substr(text.size() - size));
    return c.state == Utf8Char::State::kIncomplete ? size : 0;
  }
  return 0;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
  }
  // The joiners, and the symbols that are Other_Alphabetic: enclosed letters.
  return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
         (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
         (c >= 0x1F170 && c <= 0x1F189);
}

bool IsNumeric(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80)
    return c > ' ' && c < 0x7F && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
           !(c >= '0' && c <= '9');
  // `tokenizers` knows the punctuation of Unicode 8; what has come since is rare, and most of it
  // here.
  if (c >= 0x2E43 && c <= 0x2E5D) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsMark(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool IsNonspacingMark(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_MN;
}

bool IsControl(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO;
}

void AppendLowercase(char32_t c, std::string* out) {
  if (c == 0x130) {  // the one letter whose lower case is two characters
    out->append("i\xCC\x87");
    return;
  }
  AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
}

}  // namespace gale::text
