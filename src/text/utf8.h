// UTF-8 reading and repair. Invalid bytes become U+FFFD by the rule of the Unicode Standard
// (one per maximal subpart), which is also what Python's and Rust's lossy decoders do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gale::text {

/// U+FFFD REPLACEMENT CHARACTER in UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// One step through UTF-8 text.
struct Utf8Char {
  enum class State : uint8_t { kValid, kInvalid, kIncomplete };
  State state;
  uint8_t size;         ///< bytes to step over; of an invalid sequence, its maximal subpart
  char32_t code_point;  ///< meaningful when valid
};

/// Reads the character at the front of `text`, which must not be empty. kIncomplete means that
/// `text` ends inside a character that more bytes could still complete.
Utf8Char DecodeUtf8(std::string_view text);

/// Bytes of the character that starts with `lead`, in text known to be valid.
inline size_t Utf8Size(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The character at `pos` of text known to be valid.
char32_t CodePointAt(std::string_view valid_text, size_t pos);

void AppendUtf8(char32_t code_point, std::string* out);

bool IsValidUtf8(std::string_view text);

/// Appends `text` with every invalid sequence replaced by U+FFFD.
void AppendLossyUtf8(std::string_view text, std::string* out);

/// Bytes at the end of `text` that begin a character which is not complete: 0 to 3.
size_t IncompleteSuffixSize(std::string_view text);

/// The character classes of Rust's regex crate and std::char, which `tokenizers` uses.
bool IsWhiteSpace(char32_t c);      ///< Unicode White_Space
bool IsWordCharacter(char32_t c);   ///< \w: Alphabetic, marks, decimal digits, connectors, joiners
bool IsNumeric(char32_t c);         ///< general categories Nd, Nl, No
bool IsPunctuation(char32_t c);     ///< general category P, and ASCII's symbols
bool IsMark(char32_t c);            ///< general category M
bool IsNonspacingMark(char32_t c);  ///< general category Mn
bool IsControl(char32_t c);         ///< general category C but for what is unassigned

/// Appends `c` in lower case by Unicode's full mapping, without regard to what stands around it.
void AppendLowercase(char32_t c, std::string* out);

}  // namespace gale::text
