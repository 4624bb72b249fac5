// What turns a piece of pre-tokenized text into ids; one implementation per kind of "model".
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace gale::text {

/// Immutable to its callers; Tokenize may be called from any thread.
class TokenModel {
 public:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}
  virtual ~TokenModel() = default;

  /// Reads the "model" of tokenizer.json. Errors: kDataCorrupt, kUnsupported.
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonValue& value);

  /// Appends the ids of `piece`, valid UTF-8.
  virtual void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const = 0;

  /// Asks for a model of byte-level spellings that takes the bytes instead, which saves spelling
  /// them; true if it does from now on.
  virtual bool TakeBytes() { return false; }

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
};

}  // namespace gale::text
