#include "text/jinja/case_mapping.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include <utf8proc.h>

#include "text/utf8.h"

namespace gale::jinja {
namespace {

struct SpecialCasing {
  char32_t character;
  const char* upper;
  const char* title;  ///< "" when it is one character
};

// The letters that become several: SpecialCasing.txt of Unicode 14, without conditions.
constexpr std::array kSpecialCasings = std::to_array<SpecialCasing>({
    {0x00DF, "SS", "Ss"},
    {0x0149, "\u02bcN", "\u02bcN"},
    {0x01F0, "J\u030c", "J\u030c"},
    {0x0390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x03B0, "\u03a5\u0308\u0301", "\u03a5\u0308\u0301"},
    {0x0587, "\u0535\u0552", "\u0535\u0582"},
    {0x1E96, "H\u0331", "H\u0331"},
    {0x1E97, "T\u0308", "T\u0308"},
    {0x1E98, "W\u030a", "W\u030a"},
    {0x1E99, "Y\u030a", "Y\u030a"},
    {0x1E9A, "A\u02be", "A\u02be"},
    {0x1F50, "\u03a5\u0313", "\u03a5\u0313"},
    {0x1F52, "\u03a5\u0313\u0300", "\u03a5\u0313\u0300"},
    {0x1F54, "\u03a5\u0313\u0301", "\u03a5\u0313\u0301"},
    {0x1F56, "\u03a5\u0313\u0342", "\u03a5\u0313\u0342"},
    {0x1F80, "\u1f08\u0399", ""},
    {0x1F81, "\u1f09\u0399", ""},
    {0x1F82, "\u1f0a\u0399", ""},
    {0x1F83, "\u1f0b\u0399", ""},
    {0x1F84, "\u1f0c\u0399", ""},
    {0x1F85, "\u1f0d\u0399", ""},
    {0x1F86, "\u1f0e\u0399", ""},
    {0x1F87, "\u1f0f\u0399", ""},
    {0x1F88, "\u1f08\u0399", ""},
    {0x1F89, "\u1f09\u0399", ""},
    {0x1F8A, "\u1f0a\u0399", ""},
    {0x1F8B, "\u1f0b\u0399", ""},
    {0x1F8C, "\u1f0c\u0399", ""},
    {0x1F8D, "\u1f0d\u0399", ""},
    {0x1F8E, "\u1f0e\u0399", ""},
    {0x1F8F, "\u1f0f\u0399", ""},
    {0x1F90, "\u1f28\u0399", ""},
    {0x1F91, "\u1f29\u0399", ""},
    {0x1F92, "\u1f2a\u0399", ""},
    {0x1F93, "\u1f2b\u0399", ""},
    {0x1F94, "\u1f2c\u0399", ""},
    {0x1F95, "\u1f2d\u0399", ""},
    {0x1F96, "\u1f2e\u0399", ""},
    {0x1F97, "\u1f2f\u0399", ""},
    {0x1F98, "\u1f28\u0399", ""},
    {0x1F99, "\u1f29\u0399", ""},
    {0x1F9A, "\u1f2a\u0399", ""},
    {0x1F9B, "\u1f2b\u0399", ""},
    {0x1F9C, "\u1f2c\u0399", ""},
    {0x1F9D, "\u1f2d\u0399", ""},
    {0x1F9E, "\u1f2e\u0399", ""},
    {0x1F9F, "\u1f2f\u0399", ""},
    {0x1FA0, "\u1f68\u0399", ""},
    {0x1FA1, "\u1f69\u0399", ""},
    {0x1FA2, "\u1f6a\u0399", ""},
    {0x1FA3, "\u1f6b\u0399", ""},
    {0x1FA4, "\u1f6c\u0399", ""},
    {0x1FA5, "\u1f6d\u0399", ""},
    {0x1FA6, "\u1f6e\u0399", ""},
    {0x1FA7, "\u1f6f\u0399", ""},
    {0x1FA8, "\u1f68\u0399", ""},
    {0x1FA9, "\u1f69\u0399", ""},
    {0x1FAA, "\u1f6a\u0399", ""},
    {0x1FAB, "\u1f6b\u0399", ""},
    {0x1FAC, "\u1f6c\u0399", ""},
    {0x1FAD, "\u1f6d\u0399", ""},
    {0x1FAE, "\u1f6e\u0399", ""},
    {0x1FAF, "\u1f6f\u0399", ""},
    {0x1FB2, "\u1fba\u0399", "\u1fba\u0345"},
    {0x1FB3, "\u0391\u0399", ""},
    {0x1FB4, "\u0386\u0399", "\u0386\u0345"},
    {0x1FB6, "\u0391\u0342", "\u0391\u0342"},
    {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"},
    {0x1FBC, "\u0391\u0399", ""},
    {0x1FC2, "\u1fca\u0399", "\u1fca\u0345"},
    {0x1FC3, "\u0397\u0399", ""},
    {0x1FC4, "\u0389\u0399", "\u0389\u0345"},
    {0x1FC6, "\u0397\u0342", "\u0397\u0342"},
    {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"},
    {0x1FCC, "\u0397\u0399", ""},
    {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"},
    {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x1FD6, "\u0399\u0342", "\u0399\u0342"},
    {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
    {0x1FE2, "\u03a5\u0308\u0300", "\u03a5\u0308\u0300"},
    {0x1FE3, "\u03a5\u0308\u0301", "\u03a5\u0308\u0301"},
    {0x1FE4, "\u03a1\u0313", "\u03a1\u0313"},
    {0x1FE6, "\u03a5\u0342", "\u03a5\u0342"},
    {0x1FE7, "\u03a5\u0308\u0342", "\u03a5\u0308\u0342"},
    {0x1FF2, "\u1ffa\u0399", "\u1ffa\u0345"},
    {0x1FF3, "\u03a9\u0399", ""},
    {0x1FF4, "\u038f\u0399", "\u038f\u0345"},
    {0x1FF6, "\u03a9\u0342", "\u03a9\u0342"},
    {0x1FF7, "\u03a9\u0342\u0399", "\u03a9\u0342\u0345"},
    {0x1FFC, "\u03a9\u0399", ""},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
    {0xFB13, "\u0544\u0546", "\u0544\u0576"},
    {0xFB14, "\u0544\u0535", "\u0544\u0565"},
    {0xFB15, "\u0544\u053b", "\u0544\u056b"},
    {0xFB16, "\u054e\u0546", "\u054e\u0576"},
    {0xFB17, "\u0544\u053d", "\u0544\u056d"},
});

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

/// Case_Ignorable: what a word's end is looked for beyond.
bool IsCaseIgnorable(char32_t c) {
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default:
      return std::u32string_view(U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027").find(c) !=
             std::u32string_view::npos;
  }
}

/// A capital sigma at the end of a word becomes "ς", elsewhere "σ".
bool IsFinalSigma(std::string_view text, size_t pos) {
  size_t before = pos;
  bool follows_letter = false;
  while (before > 0 && !follows_letter) {
    --before;
    if ((static_cast<uint8_t>(text[before]) & 0xC0) == 0x80) continue;
    const char32_t c = text::CodePointAt(text, before);
    if (IsCaseIgnorable(c)) continue;
    if (!IsCased(c)) return false;
    follows_letter = true;
  }
  if (!follows_letter) return false;
  for (size_t after = pos + 2; after < text.size(); after += text::Utf8Size(text[after])) {
    const char32_t c = text::CodePointAt(text, after);
    if (!IsCaseIgnorable(c)) return !IsCased(c);
  }
  return true;
}

}  // namespace

void AppendInCase(std::string_view text, size_t pos, LetterCase letter_case, std::string* out) {
  const char32_t c = text::CodePointAt(text, pos);
  const auto code = static_cast<utf8proc_int32_t>(c);
  if (letter_case == LetterCase::kLower) {
    constexpr char32_t kCapitalSigma = 0x3A3;
    constexpr char32_t kCapitalDottedI = 0x130;
    if (c == kCapitalDottedI) {
      *out += "i\u0307";
    } else if (c == kCapitalSigma) {
      *out += IsFinalSigma(text, pos) ? "ς" : "σ";
    } else {
      text::AppendUtf8(static_cast<char32_t>(utf8proc_tolower(code)), out);
    }
    return;
  }
  const auto special =
      std::lower_bound(kSpecialCasings.begin(), kSpecialCasings.end(), c,
                       [](const SpecialCasing& s, char32_t value) { return s.character < value; });
  if (special != kSpecialCasings.end() && special->character == c) {
    const std::string_view mapped =
        letter_case == LetterCase::kUpper ? special->upper : special->title;
    if (!mapped.empty()) {
      *out += mapped;
      return;
    }
  }
  text::AppendUtf8(
      static_cast<char32_t>(letter_case == LetterCase::kUpper ? utf8proc_toupper(code)
                                                              : utf8proc_totitle(code)),
      out);
}

std::string CaseFold(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (size < 0) return std::string(text);
  return {reinterpret_cast<const char*>(folded), static_cast<size_t>(size)};
}

bool IsUpperCase(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LU; }
bool IsLowerCase(char32_t c) { return Category(c) == UTF8PROC_CATEGORY_LL; }
bool IsCased(char32_t c) {
  return IsUpperCase(c) || IsLowerCase(c) || Category(c) == UTF8PROC_CATEGORY_LT;
}

}  // namespace gale::jinja
