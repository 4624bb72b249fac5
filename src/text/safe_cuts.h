// Where a text can be cut before merging without changing what it merges to. Vocabularies that came
// from SentencePiece have no pre-tokenizer, so that a whole text is one piece; cut at such places,
// it is words again, which are short and repeat.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "text/load_cache.h"
#include "text/table_array.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace gale::text {

/// Merging never joins two characters that stand side by side in no token. When both are tokens
/// themselves (no byte fallback, no unk to fuse), the text falls apart between them.
class SafeCuts {
 public:
  explicit SafeCuts(const Vocabulary& vocabulary);

  void Save(CacheWriter* cache) const { cache->Add(slots_); }
  static std::optional<SafeCuts> Load(CacheReader* cache);

  bool CanCut(std::string_view left_character, std::string_view right_character) const {
    const char32_t left = CodePointAt(left_character, 0);
    const char32_t right = CodePointAt(right_character, 0);
    return !Has(left, right) && Has(kSingle, left) && Has(kSingle, right);
  }

 private:
  static constexpr char32_t kSingle = 0xFFFFFFFF;  ///< pairs with characters that are tokens
  static constexpr uint64_t kEmpty = 0;            ///< the pair of two NULs is taken for adjacent

  explicit SafeCuts(size_t num_slots) : slots_(num_slots, kEmpty) {}

  static uint64_t Key(char32_t left, char32_t right) {
    return static_cast<uint64_t>(left) << 32 | right;
  }
  bool Has(char32_t left, char32_t right) const {
    const uint64_t key = Key(left, right);
    return slots_[Locate(key)] == key;
  }
  size_t Locate(uint64_t key) const;
  void Insert(uint64_t key);

  TableArray<uint64_t> slots_;  ///< open addressing, at most half full
  size_t size_ = 0;
};

/// The same for byte-level vocabularies, where scripts without spaces make long pieces: between two
/// characters that stand side by side in no token. Tokens there may also begin or end inside a
/// character; for these, the bytes on both sides of the border count.
class ByteCuts {
 public:
  /// Tokens that are no byte-level spelling come from no text and are skipped.
  explicit ByteCuts(const Vocabulary& vocabulary);

  void Save(CacheWriter* cache) const;
  static std::optional<ByteCuts> Load(CacheReader* cache);

  /// Whether `left` and `right`, whole characters, can be merged apart. Some that could are not,
  /// because pairs are kept as bits of a hash (about one in forty).
  bool CanCut(std::string_view left, std::string_view right) const {
    return !Has(partial_, BytesIndex(left.back(), right.front())) &&
           !Has(pairs_, PairIndex(left, right));
  }

 private:
  using Bits = TableArray<uint64_t>;
  static constexpr int kPairBits = 21;

  ByteCuts() : pairs_((1 << kPairBits) / 64, 0), partial_((1 << 16) / 64, 0) {}

  static bool Has(const Bits& bits, size_t index) {
    return (bits[index / 64] >> index % 64 & 1) != 0;
  }
  static void Set(Bits* bits, size_t index) {
    bits->Mutable(index / 64) |= uint64_t{1} << index % 64;
  }

  static size_t BytesIndex(char left, char right) {
    return static_cast<size_t>(static_cast<uint8_t>(left)) << 8 | static_cast<uint8_t>(right);
  }
  static size_t PairIndex(std::string_view left, std::string_view right) {
    const uint64_t key = static_cast<uint64_t>(Packed(left)) << 32 | Packed(right);
    return ((key ^ key >> 29) * 0x9E37'79B9'7F4A'7C15) >> (64 - kPairBits);
  }
  static uint32_t Packed(std::string_view character) {
    uint32_t packed = 0;
    for (const char c : character) packed = packed << 8 | static_cast<uint8_t>(c);
    return packed;
  }

  Bits pairs_;    ///< [PairIndex]: some token may hold both characters
  Bits partial_;  ///< [BytesIndex]: some token holds one of them in part
};

}  // namespace gale::text
