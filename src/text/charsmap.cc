#include "text/charsmap.h"

#include <cstring>

#include <fmt/format.h>

#include "text/utf8.h"

namespace gale::text {
namespace {

// The fields of a darts-clone unit. A node's children lie at its base XOR their label; the child at
// label 0 is the leaf that carries the value.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t Offset(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

bool IsInsideCharacter(std::string_view text, size_t pos) {
  return pos < text.size() && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80;
}

}  // namespace

Result<Charsmap> Charsmap::Parse(std::string_view blob) {
  Charsmap map;
  if (blob.empty()) return map;
  uint32_t trie_bytes = 0;
  if (blob.size() >= sizeof(trie_bytes)) std::memcpy(&trie_bytes, blob.data(), sizeof(trie_bytes));
  if (blob.size() <= sizeof(trie_bytes) || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes == 0 ||
      trie_bytes >= blob.size() - sizeof(trie_bytes)) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("a charsmap whose trie and replacements fit in its {} bytes (the "
                                 "trie claims {})",
                                 blob.size(), trie_bytes));
  }
  blob.remove_prefix(sizeof(trie_bytes));
  map.units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(map.units_.data(), blob.data(), trie_bytes);
  map.replacements_ = blob.substr(trie_bytes);
  map.replacements_.push_back('\0');
  if (!IsValidUtf8(map.replacements_)) {
    return MakeError(ErrorCode::kDataCorrupt, "a charsmap whose replacements are valid UTF-8");
  }
  return map;
}

template <bool kLongest>
std::optional<Charsmap::Match> Charsmap::Find(std::string_view text) const {
  if (units_.empty()) return std::nullopt;
  std::optional<Match> found;
  // Every position is checked, so a damaged trie can only match the wrong things.
  uint32_t pos = Offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const uint32_t label = static_cast<uint8_t>(text[i]);
    pos ^= label;
    if (pos >= units_.size() || Label(units_[pos]) != label) break;
    const uint32_t unit = units_[pos];
    pos ^= Offset(unit);
    if (!HasLeaf(unit) || pos >= units_.size()) continue;
    const uint32_t value = Value(units_[pos]);
    if (value >= replacements_.size()) continue;
    const std::string_view replacement = replacements_.data() + value;
    const bool whole_characters =
        !IsInsideCharacter(text, i + 1) && !IsInsideCharacter(replacement, 0);
    if (whole_characters) found = Match{i + 1, replacement};
    if (found && !kLongest) break;
  }
  return found;
}

std::optional<Charsmap::Match> Charsmap::Longest(std::string_view text) const {
  return Find</*kLongest=*/true>(text);
}

std::optional<Charsmap::Match> Charsmap::Shortest(std::string_view text) const {
  return Find</*kLongest=*/false>(text);
}

}  // namespace gale::text
