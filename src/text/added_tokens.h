// The "added_tokens" of tokenizer.json: whole strings that are found in text before anything else
// looks at it, such as "<|im_end|>".
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/hash.h"
#include "text/normalizer.h"
#include "text/token_trie.h"
#include "text/vocabulary.h"

namespace gale::text {

struct AddedToken {
  std::string content;
  std::string spelling;  ///< what it is decoded as
  TokenId id;
  bool special;      ///< skipped when decoding, and only recognized in text that is trusted
  bool normalized;   ///< looked for in normalized text, in its normalized form
  bool lstrip;       ///< takes the white space before it along
  bool rstrip;       ///< and behind it
  bool single_word;  ///< only where no word character touches it

  /// Reads all but the id. Errors: kDataCorrupt.
  static Result<AddedToken> Parse(const JsonObject& object, TokenId id);
  /// A special token that is found as it is spelled.
  static AddedToken Special(std::string_view content, TokenId id) {
    return {std::string(content), "", id, true, false, false, false, false};
  }
};

/// A stretch of text, or an added token that was found.
struct Section {
  size_t begin;
  size_t end;
  const AddedToken* token;  ///< null for text
};

/// Immutable after Parse.
class AddedTokens {
 public:
  AddedTokens() = default;
  AddedTokens(AddedTokens&&) = default;
  AddedTokens& operator=(AddedTokens&&) = default;
  /// `value` is the array "added_tokens".
  static Result<AddedTokens> Parse(const JsonValue& value, const Normalizer& normalizer);
  /// Of tokens of one content the first one counts. `normalizer` is what the tokens that are looked
  /// for in normalized text pass. Errors: kDataCorrupt when an id is given twice.
  static Result<AddedTokens> FromList(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  /// Whether an occurrence of `token` at [begin, end) counts.
  using Filter = std::function<bool(const AddedToken& token, size_t begin, size_t end)>;
  /// Cuts `text` at added tokens, leftmost first, longest first among those; text stretches that
  /// are empty are left out. `normalized` picks the tokens that are looked for in normalized text.
  std::vector<Section> Find(std::string_view text, bool normalized, const Filter& filter) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// Whether a special token is looked for in normalized text; in the field none is.
  bool has_normalized_special() const { return has_normalized_special_; }
  const AddedToken* FindContent(std::string_view content) const;
  const AddedToken* FindId(TokenId id) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string_view, int, StringHash> by_content_;
  std::unordered_map<TokenId, int> by_id_;
  TokenTrie plain_;
  TokenTrie normalized_;
  bool has_normalized_special_ = false;
};

}  // namespace gale::text
