#include "text/vocabulary.h"

#include <algorithm>
#include <bit>

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
  result.Reserve(object.size(), num_bytes);
  result.tokens_.resize(static_cast<size_t>(num_ids));
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view token, const JsonValue& id) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t number, id.Int());
    std::string_view& slot = result.tokens_[static_cast<size_t>(number)];
    if (slot.data() != nullptr) {
      return tl::unexpected(id.Wrong(fmt::format("an id of its own (\"{}\" has it too)", slot)));
    }
    slot = result.Keep(token);
    result.slots_[result.Locate(token)] = static_cast<TokenId>(number);
    return {};
  }));
  return result;
}

Vocabulary Vocabulary::FromList(std::span<const std::string_view> tokens) {
  size_t num_bytes = 0;
  for (const std::string_view token : tokens) num_bytes += token.size();
  Vocabulary result;
  result.Reserve(tokens.size(), num_bytes);
  result.tokens_.reserve(tokens.size());
  for (const std::string_view token : tokens) {
    const bool is_used = token.data() != nullptr;
    if (is_used) result.slots_[result.Locate(token)] = static_cast<TokenId>(result.tokens_.size());
    result.tokens_.push_back(is_used ? result.Keep(token) : token);
  }
  return result;
}

void Vocabulary::Reserve(size_t num_tokens, size_t num_bytes) {
  spellings_.reserve(num_bytes + 1);  // + 1: the empty token has an address too
  slots_.assign(std::bit_ceil(2 * num_tokens + 1), kEmpty);
}

std::string_view Vocabulary::Keep(std::string_view token) {
  const char* spelling = spellings_.data() + spellings_.size();
  spellings_.insert(spellings_.end(), token.begin(), token.end());
  return {spelling, token.size()};
}

}  // namespace gale::text
