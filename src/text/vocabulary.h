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

namespace gale::text {

/// Ids at or past this are taken for a damaged file, before memory is set aside for them; the
/// largest vocabularies of the field have about 260,000 tokens.
inline constexpr int64_t kMaxTokenId = 1 << 21;

/// Immutable after Parse.
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
    return index < tokens_.size() ? tokens_[index] : std::string_view();
  }
  bool Has(TokenId id) const { return Token(id).data() != nullptr; }
  int size() const { return static_cast<int>(tokens_.size()); }  ///< largest id + 1

 private:
  static constexpr TokenId kEmpty = -1;

  /// Sets memory aside; without it no token can be added.
  void Reserve(size_t num_tokens, size_t num_bytes);
  /// The copy of `token` that lives as long as the vocabulary.
  std::string_view Keep(std::string_view token);
  /// The slot of `token`, or the empty one where it would go.
  size_t Locate(std::string_view token) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = HashBytes(token) & mask;
    while (slots_[slot] != kEmpty && Token(slots_[slot]) != token) slot = (slot + 1) & mask;
    return slot;
  }

  std::vector<char> spellings_;            ///< all tokens, one after the other; never reallocated
  std::vector<std::string_view> tokens_;   ///< [id]; null data where an id is not used
  std::vector<TokenId> slots_ = {kEmpty};  ///< open addressing by spelling, at most half full
};

}  // namespace gale::text
