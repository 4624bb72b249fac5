// The "precompiled_charsmap" of SentencePiece: rules that replace strings by strings, stored as a
// double-array trie (github.com/s-yata/darts-clone) over a block of NUL-terminated replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"

namespace gale::text {

/// Immutable; without rules it matches nothing.
class Charsmap {
 public:
  Charsmap() = default;
  /// `blob`: u32 size of the trie in bytes, the trie's little-endian u32 units, the replacements.
  /// Errors: kDataCorrupt when sizes contradict each other or replacements are not UTF-8.
  static Result<Charsmap> Parse(std::string_view blob);

  struct Match {
    size_t size;  ///< bytes of text that the rule replaces
    std::string_view replacement;
  };
  /// The rule for the longest prefix of `text`: how SentencePiece reads it.
  std::optional<Match> Longest(std::string_view text) const;
  /// The rule for the shortest prefix: how `tokenizers` reads it.
  std::optional<Match> Shortest(std::string_view text) const;

 private:
  template <bool kLongest>
  std::optional<Match> Find(std::string_view text) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  ///< ends with NUL
};

}  // namespace gale::text
