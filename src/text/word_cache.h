// Ids of words seen before: most text repeats few words, so most pieces need no merging.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <vector>

#include "gale/sampling_params.h"
#include "text/hash.h"

namespace gale::text {

/// A lock-free table that only grows, up to a bound: an entry is written once and stays, so readers
/// need no lock. An entry is one cache line and holds the word and its ids. At most 16 MB, of which
/// the system provides what is touched.
class WordCache {
 public:
  WordCache() : memory_(static_cast<char*>(std::calloc(kSlots + 1, sizeof(Entry)))) {
    if (memory_ == nullptr) throw std::bad_alloc();
    void* aligned = memory_.get();
    size_t space = (kSlots + 1) * sizeof(Entry);
    slots_ =
        static_cast<Entry*>(std::align(alignof(Entry), kSlots * sizeof(Entry), aligned, space));
  }

  /// Appends the ids of `word` if it is known.
  bool Find(std::string_view word, std::vector<TokenId>* ids) const {
    if (word.size() > kMaxBytes) return false;
    const uint64_t hash = HashBytes(word);
    for (size_t probe = 0; probe < kProbes; ++probe) {
      const size_t slot = SlotOf(hash, probe);
      if (!IsTouched(slot)) return false;
      Entry& entry = slots_[slot];
      const uint8_t state = std::atomic_ref(entry.state).load(std::memory_order_acquire);
      if (state == kEmpty) return false;
      if (state != kReady || entry.word() != word) continue;
      if (entry.num_ids == 1) {
        TokenId id;
        std::memcpy(&id, entry.payload, sizeof(id));
        ids->push_back(id);
      } else {
        const size_t size = ids->size();
        ids->resize(size + entry.num_ids);
        std::memcpy(ids->data() + size, entry.payload, entry.num_ids * sizeof(TokenId));
      }
      return true;
    }
    return false;
  }

  /// Keeps `ids` (not empty) for `word`, if both are short and there is room.
  void Insert(std::string_view word, std::span<const TokenId> ids) {
    if (ids.empty() || word.size() + ids.size_bytes() > kPayload) return;
    const uint64_t hash = HashBytes(word);
    for (size_t probe = 0; probe < kProbes; ++probe) {
      const size_t slot = SlotOf(hash, probe);
      Entry& entry = slots_[slot];
      std::atomic_ref state(entry.state);
      uint8_t expected = kEmpty;
      if (state.compare_exchange_strong(expected, kWriting, std::memory_order_acquire)) {
        entry.num_bytes = static_cast<uint8_t>(word.size());
        entry.num_ids = static_cast<uint8_t>(ids.size());
        std::memcpy(entry.payload, ids.data(), ids.size_bytes());
        std::memcpy(entry.payload + ids.size_bytes(), word.data(), word.size());
        state.store(kReady, std::memory_order_release);
        Touch(slot);
        return;
      }
      if (expected == kReady && entry.word() == word) return;
    }
  }

 private:
  static constexpr size_t kSlots = 1 << 18;
  static constexpr size_t kProbes = 4;
  static constexpr size_t kGroup = 64;  ///< slots of a page
  static constexpr size_t kPayload = 61;
  static constexpr size_t kMaxBytes = kPayload - sizeof(TokenId);
  enum State : uint8_t { kEmpty, kWriting, kReady };

  struct alignas(64) Entry {
    uint8_t state;
    uint8_t num_bytes;
    uint8_t num_ids;
    char payload[kPayload];  ///< the ids, then the word

    std::string_view word() const { return {payload + num_ids * sizeof(TokenId), num_bytes}; }
  };
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };

  static size_t SlotOf(uint64_t hash, size_t probe) { return (hash + probe) % kSlots; }

  /// Whether something has been written near `slot`. Reading what nobody has written would have the
  /// system provide a page of zeros, and another once it is written.
  bool IsTouched(size_t slot) const {
    const size_t group = slot / kGroup;
    return (touched_[group / 64].load(std::memory_order_relaxed) >> group % 64 & 1) != 0;
  }
  void Touch(size_t slot) {
    const size_t group = slot / kGroup;
    if (!IsTouched(slot)) {
      touched_[group / 64].fetch_or(uint64_t{1} << group % 64, std::memory_order_relaxed);
    }
  }

  std::array<std::atomic<uint64_t>, kSlots / kGroup / 64> touched_{};  ///< a bit for each group
  std::unique_ptr<char, Free> memory_;
  Entry* slots_;
};

}  // namespace gale::text
