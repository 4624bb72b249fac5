#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

// How much less likely an unknown character is than any token (SentencePiece, kUnkPenalty).
constexpr double kUnkPenalty = 10;

Vocabulary VocabularyOf(const std::vector<Unigram::Piece>& pieces) {
  std::vector<std::string_view> tokens;
  tokens.reserve(pieces.size());
  for (const Unigram::Piece& piece : pieces) tokens.push_back(piece.text);
  return Vocabulary::FromList(tokens);
}

}  // namespace

Unigram::Unigram(const std::vector<Piece>& pieces, Options options)
    : TokenModel(VocabularyOf(pieces)), options_(options) {
  double min_score = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    const auto id = static_cast<TokenId>(i);
    scores_.push_back(Rounded(piece.score));
    min_score = std::min(min_score, piece.score);
    if (piece.is_in_text && !piece.text.empty() && vocabulary().Find(piece.text) == id) {
      trie_.Insert(piece.text, id);
    }
  }
  unk_score_ = Rounded(min_score - kUnkPenalty);
}

Result<std::unique_ptr<TokenModel>> Unigram::Parse(const JsonObject& model,
                                                   const SpecialTokens& is_special) {
  GALE_ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, vocab.Items());
  if (items.size() > static_cast<size_t>(kMaxTokenId)) {
    return tl::unexpected(vocab.Wrong(fmt::format("at most {} tokens", kMaxTokenId)));
  }
  std::vector<Piece> pieces;
  pieces.reserve(items.size());
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> pair, item.Items());
    if (pair.size() != 2) return tl::unexpected(item.Wrong("a token and its score"));
    GALE_ASSIGN_OR_RETURN(const std::string_view text, pair[0].String());
    GALE_ASSIGN_OR_RETURN(const double score, pair[1].Number());
    pieces.push_back({text, score, !is_special(text)});
  }
  Options options{};
  GALE_ASSIGN_OR_RETURN(const JsonValue unk, model.Get("unk_id"));
  GALE_ASSIGN_OR_RETURN(const int64_t unk_id, unk.Int(0, static_cast<int64_t>(items.size()) - 1));
  options.unk = static_cast<TokenId>(unk_id);
  GALE_ASSIGN_OR_RETURN(options.byte_fallback, BoolOr(model, "byte_fallback", false));
  return std::unique_ptr<TokenModel>(new Unigram(pieces, options));
}

std::vector<Unigram::Step> Unigram::BestSteps(std::string_view text) const {
  std::vector<Step> steps(text.size() + 1);
  for (size_t begin = 0; begin < text.size();) {
    const double score = steps[begin].score;
    const auto consider = [&](size_t size, double token_score, TokenId id) {
      const double sum = Rounded(score + token_score);
      Step& step = steps[begin + size];
      if (step.begin != kUnreached && sum <= step.score) return;
      step = {sum, begin, id};
    };
    const size_t character_size = Utf8Size(text[begin]);
    bool has_character = false;
    trie_.ForEachPrefix(text.substr(begin), [&](const TokenTrie::Match& match) {
      consider(match.size, scores_[static_cast<size_t>(match.index)], match.index);
      has_character |= match.size == character_size;
    });
    if (!has_character) consider(character_size, unk_score_, options_.unk);
    begin += character_size;
  }
  return steps;
}

void Unigram::Tokenize(std::string_view piece, std::vector<TokenId>* ids) const {
  const std::vector<Step> steps = BestSteps(piece);
  std::vector<size_t> ends;
  for (size_t end = piece.size(); end > 0; end = steps[end].begin) ends.push_back(end);
  // A run of unknown characters is one.
  size_t known_until = 0;
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Step& step = steps[*end];
    if (step.id == options_.unk) continue;
    AppendUnknown(piece.substr(known_until, step.begin - known_until), ids);
    ids->push_back(step.id);
    known_until = *end;
  }
  AppendUnknown(piece.substr(known_until), ids);
}

void Unigram::AppendUnknown(std::string_view text, std::vector<TokenId>* ids) const {
  if (text.empty()) return;
  // The token for what is unknown may be spelled in the text.
  if (const auto spelled = trie_.LongestAt(text); spelled.size == text.size()) {
    ids->push_back(spelled.index);
    return;
  }
  if (!options_.byte_fallback || !AppendByteTokens(text, ids)) ids->push_back(options_.unk);
}

}  // namespace gale::text
