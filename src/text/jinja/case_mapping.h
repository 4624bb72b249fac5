// Python's case mappings: Unicode's full ones, where one letter may become several ("ß", "SS").
#pragma once

#include <string>
#include <string_view>

namespace gale::jinja {

enum class LetterCase { kUpper, kLower, kTitle };

/// Appends the character at `pos` of valid UTF-8 in `letter_case`. The text around decides how a
/// capital sigma becomes small.
void AppendInCase(std::string_view text, size_t pos, LetterCase letter_case, std::string* out);
/// str.casefold().
std::string CaseFold(std::string_view text);

/// Upper, lower or title case letters.
bool IsCased(char32_t c);
bool IsUpperCase(char32_t c);
bool IsLowerCase(char32_t c);

}  // namespace gale::jinja
