#include "text/token_model.h"

#include <fmt/format.h>

#include "text/bpe.h"
#include "text/component.h"
#include "text/unigram.h"
#include "text/word_level.h"
#include "text/wordpiece.h"

namespace gale::text {
namespace {

/// Early versions of `tokenizers` leave the type out; the members tell.
std::string_view TypeByMembers(const JsonObject& model) {
  if (model.Find("merges")) return "BPE";
  if (model.Find("unk_id")) return "Unigram";
  if (model.Find("max_input_chars_per_word")) return "WordPiece";
  return "WordLevel";
}

}  // namespace

Result<std::unique_ptr<TokenModel>> TokenModel::Parse(const JsonValue& value,
                                                      const SpecialTokens& is_special) {
  GALE_ASSIGN_OR_RETURN(const JsonObject model, value.Object());
  GALE_ASSIGN_OR_RETURN(const std::string_view type, StringOr(model, "type", TypeByMembers(model)));
  if (type == "BPE") return Bpe::Parse(model);
  if (type == "Unigram") return Unigram::Parse(model, is_special);
  if (type == "WordPiece") return WordPiece::Parse(model);
  if (type == "WordLevel") return WordLevel::Parse(model, is_special);
  return UnknownType(value, type, "BPE, Unigram, WordLevel, WordPiece");
}

Result<TokenId> TokenModel::ParseUnk(const JsonObject& model, const Vocabulary& vocabulary) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, model.Get("unk_token"));
  GALE_ASSIGN_OR_RETURN(const std::string_view token, value.String());
  const auto id = vocabulary.Find(token);
  if (!id) return tl::unexpected(value.Wrong("a token of model.vocab"));
  return *id;
}

bool TokenModel::AppendByteTokens(std::string_view bytes, std::vector<TokenId>* ids) const {
  const size_t old_size = ids->size();
  for (const char c : bytes) {
    const auto id = vocabulary_.Find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(c)));
    if (!id) {
      ids->resize(old_size);
      return false;
    }
    ids->push_back(*id);
  }
  return true;
}

}  // namespace gale::text
