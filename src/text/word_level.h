// The "model" that knows whole pieces only.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "text/token_model.h"

namespace gale::text {

class WordLevel : public TokenModel {
 public:
  /// `is_special` tells the tokens that text must not become.
  static Result<std::unique_ptr<TokenModel>> Parse(const JsonObject& model,
                                                   const SpecialTokens& is_special);
  void Tokenize(std::string_view piece, std::vector<TokenId>* ids) const override;

 private:
  WordLevel(Vocabulary vocabulary, TokenId unk, const SpecialTokens& is_special);

  TokenId unk_;
  std::vector<bool> is_special_;  ///< [id]
};

}  // namespace gale::text
