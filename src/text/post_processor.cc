#include "text/post_processor.h"

#include "text/component.h"
#include "text/vocabulary.h"

namespace gale::text {
namespace {

constexpr std::string_view kKnown =
    "BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing";
constexpr size_t kMaxAdded = 256;

/// The ids that a special token of the template stands for.
Result<std::vector<TokenId>> SpecialIds(const JsonObject& object, const JsonValue& piece) {
  GALE_ASSIGN_OR_RETURN(const JsonObject special, piece.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue name_value, special.Get("id"));
  GALE_ASSIGN_OR_RETURN(const std::string_view name, name_value.String());
  GALE_ASSIGN_OR_RETURN(const JsonValue table_value, object.Get("special_tokens"));
  GALE_ASSIGN_OR_RETURN(const JsonObject table, table_value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue entry_value, table.Get(name));
  GALE_ASSIGN_OR_RETURN(const JsonObject entry, entry_value.Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue ids_value, entry.Get("ids"));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, ids_value.Items());
  std::vector<TokenId> ids;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const int64_t id, item.Int(0, kMaxTokenId - 1));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

/// A member such as "sep": ["</s>", 2].
Result<TokenId> NamedId(const JsonObject& object, std::string_view key) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> pair, value.Items());
  if (pair.size() != 2) return tl::unexpected(value.Wrong("a token and its id"));
  GALE_ASSIGN_OR_RETURN(const int64_t id, pair[1].Int(0, kMaxTokenId - 1));
  return static_cast<TokenId>(id);
}

}  // namespace

Result<PostProcessor> PostProcessor::Parse(const JsonValue& value) {
  PostProcessor result;
  GALE_RETURN_IF_ERROR(
      ForEachPart(value, "processors", [&](const JsonValue& at, const Component& part) -> Status {
        if (part.type == "TemplateProcessing") return result.AddTemplate(part.object);
        if (part.type == "BertProcessing" || part.type == "RobertaProcessing") {
          return result.AddEnds(part.object);
        }
        if (part.type == "ByteLevel") return {};  // concerns offsets only, which are not kept
        return UnknownType(at, part.type, kKnown);
      }));
  return result;
}

Status PostProcessor::AddEnds(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const TokenId first, NamedId(object, "cls"));
  GALE_ASSIGN_OR_RETURN(const TokenId last, NamedId(object, "sep"));
  Wrap({first}, {last});
  return {};
}

void PostProcessor::Wrap(const std::vector<TokenId>& before, const std::vector<TokenId>& after) {
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
}

Status PostProcessor::AddTemplate(const JsonObject& object) {
  GALE_ASSIGN_OR_RETURN(const JsonValue single, object.Get("single"));
  GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> pieces, single.Items());
  std::vector<TokenId> before;
  std::vector<TokenId> after;
  bool seen_text = false;
  for (const JsonValue& piece_value : pieces) {
    GALE_ASSIGN_OR_RETURN(const JsonObject piece, piece_value.Object());
    if (piece.Find("Sequence")) {
      if (seen_text) return tl::unexpected(single.Wrong("the sequence once"));
      seen_text = true;
      continue;
    }
    GALE_ASSIGN_OR_RETURN(const JsonValue special, piece.Get("SpecialToken"));
    GALE_ASSIGN_OR_RETURN(const std::vector<TokenId> ids, SpecialIds(object, special));
    std::vector<TokenId>& side = seen_text ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!seen_text) return tl::unexpected(single.Wrong("a template with the sequence in it"));
  Wrap(before, after);
  if (before_.size() + after_.size() > kMaxAdded) {
    return tl::unexpected(single.Wrong("a template of few tokens"));
  }
  return {};
}

}  // namespace gale::text
