// Ids of words seen before: most text repeats few words, so most pieces need no merging.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "gale/sampling_params.h"
#include "text/hash.h"

namespace gale::text {

/// A lock-free table that only grows, up to a bound: slots go from empty to an entry once and stay,
/// so readers need no lock and entries need no reference counts. At most 6 MB.
class WordCache {
 public:
  WordCache() : slots_(std::make_unique<std::atomic<Entry*>[]>(kSlots)) {}
  ~WordCache() {
    for (size_t i = 0; i < kSlots; ++i) delete slots_[i].load(std::memory_order_relaxed);
  }
  WordCache(const WordCache&) = delete;
  WordCache& operator=(const WordCache&) = delete;

  /// The ids of `word`, or an empty span. The span lives as long as the cache.
  std::span<const TokenId> Find(std::string_view word) const {
    if (word.size() > kMaxBytes) return {};
    const uint64_t hash = HashBytes(word);
    for (size_t probe = 0; probe < kProbes; ++probe) {
      const Entry* entry = Slot(hash, probe).load(std::memory_order_acquire);
      if (entry == nullptr) return {};
      if (entry->hash == hash && entry->word() == word) return {entry->ids.data(), entry->num_ids};
    }
    return {};
  }

  /// Keeps `ids` (not empty) for `word`, if both are short and there is room.
  void Insert(std::string_view word, std::span<const TokenId> ids) {
    if (word.size() > kMaxBytes || ids.size() > kMaxIds || ids.empty()) return;
    const uint64_t hash = HashBytes(word);
    std::unique_ptr<Entry> entry;
    for (size_t probe = 0; probe < kProbes; ++probe) {
      std::atomic<Entry*>& slot = Slot(hash, probe);
      Entry* there = slot.load(std::memory_order_acquire);
      if (there == nullptr) {
        if (entry == nullptr) entry = std::make_unique<Entry>(hash, word, ids);
        if (slot.compare_exchange_strong(there, entry.get(), std::memory_order_acq_rel)) {
          entry.release();
          return;
        }
      }
      if (there->hash == hash && there->word() == word) return;
    }
  }

 private:
  static constexpr size_t kSlots = 1 << 16;
  static constexpr size_t kProbes = 8;
  static constexpr size_t kMaxBytes = 42;
  static constexpr size_t kMaxIds = 9;

  struct Entry {
    Entry(uint64_t h, std::string_view word, std::span<const TokenId> from)
        : hash(h),
          num_bytes(static_cast<uint8_t>(word.size())),
          num_ids(static_cast<uint8_t>(from.size())) {
      std::memcpy(bytes.data(), word.data(), word.size());
      std::memcpy(ids.data(), from.data(), from.size_bytes());
    }
    std::string_view word() const { return {bytes.data(), num_bytes}; }

    uint64_t hash;
    uint8_t num_bytes;
    uint8_t num_ids;
    std::array<char, kMaxBytes> bytes;
    std::array<TokenId, kMaxIds> ids;
  };

  std::atomic<Entry*>& Slot(uint64_t hash, size_t probe) const {
    return slots_[(hash + probe) % kSlots];
  }

  std::unique_ptr<std::atomic<Entry*>[]> slots_;
};

}  // namespace gale::text
