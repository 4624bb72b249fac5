// What turns a piece of pre-tokenized text into ids; one implementation per kind of "model".
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "text/load_cache.h"
#include "text/vocabulary.h"

namespace gale::text {

/// Tells the tokens that stand for themselves only, never for text that spells them.
using SpecialTokens = std::function<bool(std::string_view)>;

/// Immutable to its callers; Tokenize may be called from any thread.
class TokenModel {
 public:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~TokenModel() = default;

  /// Reads the "model" of tokenizer.json. Errors: kDataCorrupt, kUnsupported.
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonValue& value,
                                                   const SpecialTokens& is_special);

  /// Appends the ids of `piece`, valid UTF-8.
  virtual void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const = 0;

  /// Asks for a model of byte-level spellings that takes the bytes instead, which saves spelling
  /// them; true if it does from now on.
  virtual bool TakeBytes() { return false; }
  /// Adds what the model has read from its "vocab" and "merges", for Bpe::Load; false for models
  /// that are not kept between runs.
  virtual bool Save(CacheWriter* /*cache*/) const { return false; }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  /// The id of "unk_token", which must be a token: what is unknown must become something.
  static Result<TokenId> ParseUnk(const JsonObject& model, const Vocabulary& vocabulary);
  /// Appends a <0xXX> token for each byte; false, appending nothing, if one does not exist.
  bool AppendByteTokens(std::string_view bytes, std::vector<TokenId>* ids) const;

 private:
  Vocabulary vocabulary_;
};

}  // namespace gale::text
