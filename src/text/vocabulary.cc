#include "text/vocabulary.h"

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale::text {

Result<Vocabulary> Vocabulary::Parse(const JsonValue& value) {
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  size_t num_bytes = 0;
  int64_t num_ids = 0;
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view token, const JsonValue& id) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t number, id.Int(0, kMaxTokenId - 1));
    num_bytes += token.size();
    num_ids = std::max(num_ids, number + 1);
    return {};
  }));

  Vocabulary result;
  result.spellings_.reserve(num_bytes + 1);  // + 1: the empty token has an address too
  result.tokens_.resize(static_cast<size_t>(num_ids));
  result.ids_.reserve(object.size());
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view token, const JsonValue& id) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t number, id.Int());
    std::string_view& slot = result.tokens_[static_cast<size_t>(number)];
    if (slot.data() != nullptr) {
      return tl::unexpected(id.Wrong(fmt::format("an id of its own (\"{}\" has it too)", slot)));
    }
    const char* spelling = result.spellings_.data() + result.spellings_.size();
    result.spellings_.insert(result.spellings_.end(), token.begin(), token.end());
    slot = {spelling, token.size()};
    result.ids_.emplace(slot, static_cast<TokenId>(number));
    return {};
  }));
  return result;
}

}  // namespace gale::text
