// The four kinds of characters that the word patterns of the field tell apart, by table lookup.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gale::text {

enum class CharClass : uint8_t {
  kOther,   ///< marks, punctuation, symbols, controls, unassigned
  kLetter,  ///< \p{L}
  kNumber,  ///< \p{N}
  kSpace,   ///< \s: Unicode White_Space
};

/// Classes of all code points in two stages: blocks of 128 code points, equal ones stored once.
/// About 20 KB, of which a text of one script touches a few hundred bytes.
class CharClassTable {
 public:
  /// Built on first use, in under a millisecond.
  static const CharClassTable& Get();

  CharClass operator[](char32_t c) const {
    if (c >= kEnd) return CharClass::kOther;
    return classes_[block_of_[c / kBlock] * kBlock + c % kBlock];
  }
  CharClass OfAscii(uint8_t byte) const { return ascii_[byte]; }

 private:
  static constexpr char32_t kBlock = 128;
  static constexpr char32_t kEnd = 0x34000;  ///< no letters, numbers or spaces from here on

  CharClassTable();

  std::array<CharClass, 128> ascii_;
  std::vector<uint16_t> block_of_;
  std::vector<CharClass> classes_;
};

}  // namespace gale::text
