// The token strings of a model and their ids, both ways.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "gale/sampling_params.h"
#include "text/hash.h"

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

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::optional<TokenId> Find(std::string_view token) const {
    const auto it = ids_.find(token);
    return it == ids_.end() ? std::nullopt : std::optional(it->second);
  }
  /// The spelling of `id`; empty when there is none.
  std::string_view Token(TokenId id) const {
    const auto index = static_cast<size_t>(id);
    return index < tokens_.size() ? tokens_[index] : std::string_view();
  }
  bool Has(TokenId id) const { return Token(id).data() != nullptr; }
  int size() const { return static_cast<int>(tokens_.size()); }  ///< largest id + 1

 private:
  std::vector<char> spellings_;           ///< all tokens, one after the other; never reallocated
  std::vector<std::string_view> tokens_;  ///< [id]; null data where an id is not used
  std::unordered_map<std::string_view, TokenId, StringHash> ids_;
};

}  // namespace gale::text
