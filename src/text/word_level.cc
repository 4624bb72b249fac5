#include "text/word_level.h"

#include "base/status_macros.h"

namespace gale::text {

WordLevel::WordLevel(Vocabulary vocabulary, TokenId unk, const SpecialTokens& is_special)
    : TokenModel(std::move(vocabulary)), unk_(unk) {
  for (TokenId id = 0; id < this->vocabulary().size(); ++id) {
    is_special_.push_back(is_special(this->vocabulary().Token(id)));
  }
}

Result<std::unique_ptr<TokenModel>> WordLevel::Parse(const JsonObject& model,
                                                     const SpecialTokens& is_special) {
  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(vocab));
  GALE_ASSIGN_OR_RETURN(const TokenId unk, ParseUnk(model, vocabulary));
  return std::unique_ptr<TokenModel>(new WordLevel(std::move(vocabulary), unk, is_special));
}

void WordLevel::Tokenize(std::string_view piece, std::vector<TokenId>* ids) const {
  if (piece.empty()) return;
  const TokenId id = vocabulary().Find(piece).value_or(unk_);
  ids->push_back(is_special_[static_cast<size_t>(id)] ? unk_ : id);
}

}  // namespace gale::text
