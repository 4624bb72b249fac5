// The token strings of a model and their ids, both ways.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "gale/sampling_params.h"
#include "text/hash.h"
#include "text/load_cache.h"
#include "text/table_array.h"

namespace gale::text {

/// Ids at or past this are taken for a damaged file, before memory is set aside for them; the
/// largest vocabularies of the field have about 260,000 tokens.
inline constexpr int64_t kMaxTokenId = 1 << 21;

/// Immutable.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Reads an object of token -> id. Errors: kDataCorrupt for ids out of range or given twice.
  static Result<Vocabulary> Parse(const JsonValue& value);

  /// Token i gets id i, and one with null data leaves its id unused; of equal tokens the last one
  /// is found, as in `tokenizers`.
  static Vocabulary FromList(std::span<const std::string_view> tokens);

  void Save(CacheWriter* cache) const;
  static std::optional<Vocabulary> Load(CacheReader* cache);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::optional<TokenId> Find(std::string_view token) const {
    const TokenId id = slots_[Locate(token)];
    return id < 0 ? std::nullopt : std::optional(id);
  }
  /// The spelling of `id`; empty when there is none.
  std::string_view Token(TokenId id) const {
    const auto index = static_cast<size_t>(id);
    if (index >= places_.size() || places_[index].size < 0) return {};
    return {spellings_.data() + places_[index].begin, static_cast<size_t>(places_[index].size)};
  }
  bool Has(TokenId id) const { return Token(id).data() != nullptr; }
  int size() const { return static_cast<int>(places_.size()); }  ///< largest id + 1

 private:
  static constexpr TokenId kEmpty = -1;
  struct Place {
    uint32_t begin = 0;
    int32_t size = -1;  ///< -1: the id is not used
  };

  /// With room for tokens of `num_bytes` in all.
  Vocabulary(size_t num_ids, size_t num_tokens, size_t num_bytes);
  void Add(TokenId id, std::string_view token);
  /// The slot of `token`, or the empty one where it would go.
  size_t Locate(std::string_view token) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = HashBytes(token) & mask;
    while (slots_[slot] != kEmpty && Token(slots_[slot]) != token) slot = (slot + 1) & mask;
    return slot;
  }

  TableArray<char> spellings_;            ///< all tokens, one after the other
  TableArray<Place> places_;              ///< [id], in spellings_
  TableArray<TokenId> slots_{1, kEmpty};  ///< open addressing by spelling, at most half full
  uint32_t num_spelled_ = 0;              ///< bytes of spellings_ in use
};

}  // namespace gale::text
