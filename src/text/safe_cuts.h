// Where a text can be cut before merging without changing what it merges to. Vocabularies that came
// from SentencePiece have no pre-tokenizer, so that a whole text is one piece; cut at such places,
// it is words again, which are short and repeat.
#pragma once

#include <cstdint>
#include <vector>

#include "text/vocabulary.h"

namespace gale::text {

/// Merging never joins two characters that stand side by side in no token. When both are tokens
/// themselves (no byte fallback, no unk to fuse), the text falls apart between them.
class SafeCuts {
 public:
  explicit SafeCuts(const Vocabulary& vocabulary);

  bool CanCut(char32_t left, char32_t right) const {
    return !Has(left, right) && Has(kSingle, left) && Has(kSingle, right);
  }

 private:
  static constexpr char32_t kSingle = 0xFFFFFFFF;  ///< pairs with characters that are tokens
  static constexpr uint64_t kEmpty = 0;            ///< the pair of two NULs is taken for adjacent

  static uint64_t Key(char32_t left, char32_t right) {
    return static_cast<uint64_t>(left) << 32 | right;
  }
  bool Has(char32_t left, char32_t right) const {
    const uint64_t key = Key(left, right);
    return slots_[Locate(key)] == key;
  }
  size_t Locate(uint64_t key) const;
  void Insert(uint64_t key);

  std::vector<uint64_t> slots_;  ///< open addressing, at most half full
  size_t size_ = 0;
};

}  // namespace gale::text
