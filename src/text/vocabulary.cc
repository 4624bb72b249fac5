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

void Vocabulary::Save(CacheWriter* cache) const {
  std::string spellings;
  std::vector<int32_t> sizes;  // [id]; -1 where an id is not used
  for (const std::string_view token : tokens_) {
    sizes.push_back(token.data() == nullptr ? -1 : static_cast<int32_t>(token.size()));
    spellings += token;
  }
  cache->Add(spellings);
  cache->Add(sizes);
  cache->Add(slots_);
}

std::optional<Vocabulary> Vocabulary::Load(CacheReader* cache) {
  Vocabulary result;
  std::vector<int32_t> sizes;
  if (!cache->Read(&result.spellings_) || !cache->Read(&sizes) || !cache->Read(&result.slots_)) {
    return std::nullopt;
  }
  result.spellings_.push_back('\0');  // the empty token has an address too
  size_t pos = 0;
  result.tokens_.reserve(sizes.size());
  for (const int32_t size : sizes) {
    const size_t used = size < 0 ? 0 : static_cast<size_t>(size);
    if (used >= result.spellings_.size() - pos) return std::nullopt;
    const char* spelling = size < 0 ? nullptr : result.spellings_.data() + pos;
    result.tokens_.emplace_back(spelling, used);
    pos += used;
  }
  size_t num_used = 0;
  for (const TokenId id : result.slots_) {
    if (id < kEmpty || id >= result.size()) return std::nullopt;
    num_used += id != kEmpty;
  }
  // A search ends at an empty slot.
  const bool is_table =
      std::has_single_bit(result.slots_.size()) && num_used < result.slots_.size();
  if (!is_table || sizes.size() > kMaxTokenId) return std::nullopt;
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
