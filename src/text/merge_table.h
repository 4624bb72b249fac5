// The merges of byte-pair encoding: which neighbours become one symbol, and which pair goes first.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <optional>

#include "gale/sampling_params.h"
#include "text/load_cache.h"
#include "text/table_array.h"

namespace gale::text {

/// From a pair of neighbouring ids to their merge. Open addressing, at most two thirds full, with
/// 64-bit keys; immutable once filled. Pairs of ids below 256 stand in an array of their own: in
/// byte-level vocabularies these are the bytes, with which every word begins.
class MergeTable {
 public:
  static constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

  struct Merge {
    uint32_t rank = kNoRank;  ///< lower merges first; kNoRank: the pair does not merge
    TokenId id = -1;          ///< what the pair becomes
  };

  explicit MergeTable(size_t num_merges)
      : byte_pairs_(kBytes * kBytes, Merge()),
        slots_(std::bit_ceil(num_merges + num_merges / 2 + 2), Slot()) {}

  void Save(CacheWriter* cache) const {
    cache->Add(byte_pairs_);
    cache->Add(slots_);
  }
  /// Merges of ids below `num_ids`.
  static std::optional<MergeTable> Load(CacheReader* cache, TokenId num_ids) {
    MergeTable table(0);
    if (!cache->Read(&table.byte_pairs_) || !cache->Read(&table.slots_)) return std::nullopt;
    const auto is_sound = [num_ids](const Merge& merge) {
      return merge.rank == kNoRank || (merge.id >= 0 && merge.id < num_ids);
    };
    size_t num_used = 0;
    for (const Slot& slot : table.slots_) {
      if (!is_sound(slot.merge)) return std::nullopt;
      num_used += slot.key != kEmpty;
    }
    // A search ends at an empty slot.
    const bool is_table =
        std::has_single_bit(table.slots_.size()) && num_used < table.slots_.size();
    if (!is_table || table.slots_.size() < 2 || table.byte_pairs_.size() != kBytes * kBytes ||
        !std::ranges::all_of(table.byte_pairs_, is_sound)) {
      return std::nullopt;
    }
    return table;
  }

  /// A pair given twice keeps the later rank, as in `tokenizers`.
  void Insert(TokenId left, TokenId right, Merge merge) {
    const uint64_t key = Key(left, right);
    if (IsBytePair(key)) {
      byte_pairs_.Mutable(BytePairIndex(key)) = merge;
    } else {
      slots_.Mutable(Locate(key)) = {key, merge};
    }
  }

  Merge Find(TokenId left, TokenId right) const {
    const uint64_t key = Key(left, right);
    return IsBytePair(key) ? byte_pairs_[BytePairIndex(key)] : slots_[Locate(key)].merge;
  }

 private:
  static constexpr size_t kBytes = 256;
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };

  static uint64_t Key(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static bool IsBytePair(uint64_t key) { return (key & ~uint64_t{0xFF'0000'00FF}) == 0; }
  static size_t BytePairIndex(uint64_t key) { return key >> 24 | (key & 0xFF); }
  /// The slot of `key`, or the empty one where it would go.
  size_t Locate(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    // Fibonacci hashing (Knuth, TAOCP 6.4), after a fold that lets the left id reach all bits.
    size_t slot =
        ((key ^ key >> 29) * 0x9E37'79B9'7F4A'7C15) >> (64 - std::countr_zero(slots_.size()));
    while (slots_[slot].key != key && slots_[slot].key != kEmpty) slot = (slot + 1) & mask;
    return slot;
  }

  TableArray<Merge> byte_pairs_;  ///< [left * 256 + right]
  TableArray<Slot> slots_;
};

}  // namespace gale::text
