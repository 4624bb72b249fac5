#include "text/added_tokens.h"

#include <algorithm>

#include <fmt/format.h>

#include "text/component.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

// Bounds the walk at each position of the text; the longest of the field are under a hundred bytes.
constexpr size_t kMaxContentBytes = 512;

size_t PreviousCharacter(std::string_view text, size_t pos) {
  do {
    --pos;
  } while (pos > 0 && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80);
  return pos;
}

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && IsWordCharacter(CodePointAt(text, PreviousCharacter(text, begin)))) ||
         (end < text.size() && IsWordCharacter(CodePointAt(text, end)));
}

/// The start of the white space that ends at `pos`, not before `limit`.
size_t WhiteSpaceBefore(std::string_view text, size_t pos, size_t limit) {
  while (pos > limit) {
    const size_t previous = PreviousCharacter(text, pos);
    if (!IsWhiteSpace(CodePointAt(text, previous))) break;
    pos = previous;
  }
  return pos;
}

size_t WhiteSpaceAfter(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    const Utf8Char c = DecodeUtf8(text.substr(pos));
    if (!IsWhiteSpace(c.code_point)) break;
    pos += c.size;
  }
  return pos;
}

}  // namespace

Result<AddedToken> AddedToken::Parse(const JsonObject& object, TokenId id) {
  GALE_ASSIGN_OR_RETURN(const JsonValue content_value, object.Get("content"));
  GALE_ASSIGN_OR_RETURN(const std::string_view content, content_value.String());
  if (content.size() > kMaxContentBytes) {
    return tl::unexpected(
        content_value.Wrong(fmt::format("a string of at most {} bytes", kMaxContentBytes)));
  }
  AddedToken token{};
  token.content = content;
  token.id = id;
  GALE_ASSIGN_OR_RETURN(token.special, BoolOr(object, "special", false));
  GALE_ASSIGN_OR_RETURN(token.normalized, BoolOr(object, "normalized", !token.special));
  GALE_ASSIGN_OR_RETURN(token.lstrip, BoolOr(object, "lstrip", false));
  GALE_ASSIGN_OR_RETURN(token.rstrip, BoolOr(object, "rstrip", false));
  GALE_ASSIGN_OR_RETURN(token.single_word, BoolOr(object, "single_word", false));
  return token;
}

Result<AddedTokens> AddedTokens::Parse(const JsonValue& value, const Normalizer& normalizer) {
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, value.Items());
  std::vector<AddedToken> tokens;
  tokens.reserve(items.size());
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const JsonObject object, item.Object());
    GALE_ASSIGN_OR_RETURN(const JsonValue id_value, object.Get("id"));
    GALE_ASSIGN_OR_RETURN(const int64_t id, id_value.Int(0, kMaxTokenId - 1));
    GALE_ASSIGN_OR_RETURN(AddedToken token, AddedToken::Parse(object, static_cast<TokenId>(id)));
    tokens.push_back(std::move(token));
  }
  Result<AddedTokens> result = FromList(std::move(tokens), normalizer);
  if (!result) return tl::unexpected(value.Wrong(result.error().message));
  return result;
}

Result<AddedTokens> AddedTokens::FromList(std::vector<AddedToken> tokens,
                                          const Normalizer& normalizer) {
  AddedTokens result;
  result.tokens_.reserve(tokens.size());  // by_content_ holds views into it
  for (AddedToken& token : tokens) {
    const int index = static_cast<int>(result.tokens_.size());
    if (token.content.empty() || result.by_content_.contains(token.content)) continue;
    if (!result.by_id_.try_emplace(token.id, index).second) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("an id of its own for each token, but {} of \"{}\" is taken",
                                   token.id, token.content));
    }
    result.tokens_.push_back(std::move(token));
    result.by_content_.emplace(result.tokens_.back().content, index);
  }
  for (size_t i = 0; i < result.tokens_.size(); ++i) {
    AddedToken& token = result.tokens_[i];
    const std::string sought =
        token.normalized ? normalizer.Normalize(token.content) : token.content;
    // As `tokenizers` has it, but for special tokens, which it then cannot tell from others.
    token.spelling = token.special ? token.content : sought;
    if (sought.empty() || sought.size() > 4 * kMaxContentBytes) continue;
    result.has_normalized_special_ |= token.special && token.normalized;
    (token.normalized ? result.normalized_ : result.plain_).Insert(sought, static_cast<int>(i));
  }
  return result;
}

std::vector<Section> AddedTokens::Find(std::string_view text, bool normalized,
                                       const Filter& filter) const {
  const TokenTrie& trie = normalized ? normalized_ : plain_;
  std::vector<Section> sections;
  size_t done = 0;
  size_t pos = 0;
  while ((pos = trie.NextCandidate(text, pos)) < text.size()) {
    const TokenTrie::Match match = trie.LongestAt(text.substr(pos));
    if (match.index < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match.index)];
    size_t begin = pos;
    size_t end = pos + match.size;
    pos = end;
    if (!filter(token, begin, end)) continue;
    if (token.single_word && TouchesWord(text, begin, end)) continue;
    if (token.lstrip) begin = WhiteSpaceBefore(text, begin, done);
    if (token.rstrip) end = WhiteSpaceAfter(text, end);
    // White space that the token before took along may begin this one.
    begin = std::max(begin, done);
    end = std::max(begin, end);
    if (done < begin) sections.push_back({done, begin, nullptr});
    sections.push_back({begin, end, &token});
    done = end;
  }
  if (done < text.size()) sections.push_back({done, text.size(), nullptr});
  return sections;
}

const AddedToken* AddedTokens::FindContent(std::string_view content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? nullptr : &tokens_[static_cast<size_t>(it->second)];
}

const AddedToken* AddedTokens::FindId(TokenId id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[static_cast<size_t>(it->second)];
}

}  // namespace gale::text
