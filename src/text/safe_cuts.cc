#include "text/safe_cuts.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "text/byte_level.h"
#include "text/utf8.h"

namespace gale::text {

SafeCuts::SafeCuts(const Vocabulary& vocabulary) : SafeCuts(1024) {
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary.Token(id);
    char32_t left = kSingle;
    for (size_t pos = 0; pos < token.size();) {
      const Utf8Char c = DecodeUtf8(token.substr(pos));
      const bool is_single = c.size == token.size();
      if (is_single || left != kSingle) Insert(Key(left, c.code_point));
      left = c.code_point;
      pos += c.size;
    }
  }
}

size_t SafeCuts::Locate(uint64_t key) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = HashBytes({reinterpret_cast<const char*>(&key), sizeof(key)}) & mask;
  while (slots_[slot] != key && slots_[slot] != kEmpty) slot = (slot + 1) & mask;
  return slot;
}

void SafeCuts::Insert(uint64_t key) {
  uint64_t& slot = slots_.Mutable(Locate(key));
  if (slot == key) return;
  slot = key;
  if (++size_ * 2 <= slots_.size()) return;
  const auto old = std::exchange(slots_, TableArray<uint64_t>(slots_.size() * 2, kEmpty));
  for (const uint64_t entry : old) {
    if (entry != kEmpty) slots_.Mutable(Locate(entry)) = entry;
  }
}

std::optional<SafeCuts> SafeCuts::Load(CacheReader* cache) {
  SafeCuts cuts(0);
  if (!cache->Read(&cuts.slots_) || !std::has_single_bit(cuts.slots_.size())) return std::nullopt;
  // A search ends at an empty slot.
  if (std::ranges::find(cuts.slots_, kEmpty) == cuts.slots_.end()) return std::nullopt;
  return cuts;
}

void ByteCuts::Save(CacheWriter* cache) const {
  cache->Add(pairs_);
  cache->Add(partial_);
}

std::optional<ByteCuts> ByteCuts::Load(CacheReader* cache) {
  ByteCuts cuts;
  const size_t num_pairs = cuts.pairs_.size();
  const size_t num_partial = cuts.partial_.size();
  if (!cache->Read(&cuts.pairs_) || !cache->Read(&cuts.partial_)) return std::nullopt;
  if (cuts.pairs_.size() != num_pairs || cuts.partial_.size() != num_partial) return std::nullopt;
  return cuts;
}

ByteCuts::ByteCuts(const Vocabulary& vocabulary) : ByteCuts() {
  std::string bytes;
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    bytes.clear();
    if (!AppendBytesOfSpelling(vocabulary.Token(id), &bytes)) continue;
    Utf8Char left{};
    for (size_t pos = 0; pos < bytes.size();) {
      const Utf8Char right = DecodeUtf8(std::string_view(bytes).substr(pos));
      const bool both_valid =
          left.state == Utf8Char::State::kValid && right.state == Utf8Char::State::kValid;
      if (pos > 0 && both_valid) {
        const std::string_view around = std::string_view(bytes).substr(pos - left.size);
        Set(&pairs_, PairIndex(around.substr(0, left.size), around.substr(left.size, right.size)));
      } else if (pos > 0) {
        Set(&partial_, BytesIndex(bytes[pos - 1], bytes[pos]));
      }
      left = right;
      pos += right.size;
    }
  }
}

}  // namespace gale::text
