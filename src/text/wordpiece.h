// The "model" of BERT: the longest known piece first (Schuster and Nakajima 2012; Wu et al. 2016,
// arXiv:1609.08144).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/token_model.h"

namespace gale::text {

class WordPiece : public TokenModel {
 public:
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonObject& model);

  /// A word with a part that is in no token, or of too many characters, is one unk.
  /// Cost: O(n * length of the longest token) for a word of n characters.
  void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const override;

 private:
  struct Options {
    TokenId unk;
    std::string prefix;     ///< of pieces inside a word
    size_t max_characters;  ///< of a word
  };
  WordPiece(Vocabulary vocabulary, Options options);

  Options options_;
  size_t max_token_bytes_ = 0;
};

}  // namespace gale::text
