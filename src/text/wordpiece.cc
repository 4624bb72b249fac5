#include "text/wordpiece.h"

#include <algorithm>

#include "base/status_macros.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr int64_t kMaxCharactersBound = 1 << 20;

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

}  // namespace

WordPiece::WordPiece(Vocabulary vocabulary, Options options)
    : TokenModel(std::move(vocabulary)), options_(std::move(options)) {
  for (TokenId id = 0; id < this->vocabulary().size(); ++id) {
    max_token_bytes_ = std::max(max_token_bytes_, this->vocabulary().Token(id).size());
  }
}

Result<std::unique_ptr<TokenModel>> WordPiece::Parse(const JsonObject& model) {
  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(vocab));
  Options options;
  GALE_ASSIGN_OR_RETURN(options.unk, ParseUnk(model, vocabulary));
  GALE_ASSIGN_OR_RETURN(options.prefix, StringOr(model, "continuing_subword_prefix", "##"));
  const auto max_characters = model.Find("max_input_chars_per_word");
  GALE_ASSIGN_OR_RETURN(const int64_t max,
                        max_characters ? max_characters->Int(0, kMaxCharactersBound) : 100);
  options.max_characters = static_cast<size_t>(max);
  return std::unique_ptr<TokenModel>(new WordPiece(std::move(vocabulary), std::move(options)));
}

void WordPiece::Tokenize(std::string_view piece, std::vector<TokenId>* ids) const {
  const size_t first = ids->size();
  const auto give_up = [&] {
    ids->resize(first);
    ids->push_back(options_.unk);
  };
  if (CountCharacters(piece) > options_.max_characters) return give_up();
  std::string spelling;
  for (size_t begin = 0; begin < piece.size();) {
    spelling = begin == 0 ? "" : options_.prefix;
    const size_t prefix_size = spelling.size();
    if (prefix_size >= max_token_bytes_) return give_up();
    spelling += piece.substr(begin, max_token_bytes_ - prefix_size);
    auto id = vocabulary().Find(spelling);
    while (!id && spelling.size() > prefix_size) {
      spelling.pop_back();  // what ends inside a character is in no vocabulary
      id = vocabulary().Find(spelling);
    }
    if (!id || spelling.size() == prefix_size) return give_up();
    ids->push_back(*id);
    begin += spelling.size() - prefix_size;
  }
}

}  // namespace gale::text
