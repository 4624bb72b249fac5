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

  Vocabulary result(static_cast<size_t>(num_ids), object.size(), num_bytes);
  GALE_RETURN_IF_ERROR(object.ForEach([&](std::string_view token, const JsonValue& id) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t number, id.Int());
    const auto token_id = static_cast<TokenId>(number);
    if (result.Has(token_id)) {
      return tl::unexpected(
          id.Wrong(fmt::format("an id of its own (\"{}\" has it too)", result.Token(token_id))));
    }
    result.Add(token_id, token);
    return {};
  }));
  return result;
}

Vocabulary Vocabulary::FromList(std::span<const std::string_view> tokens) {
  size_t num_bytes = 0;
  for (const std::string_view token : tokens) num_bytes += token.size();
  Vocabulary result(tokens.size(), tokens.size(), num_bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].data() != nullptr) result.Add(static_cast<TokenId>(i), tokens[i]);
  }
  return result;
}

void Vocabulary::Save(CacheWriter* cache) const {
  cache->Add(spellings_);
  cache->Add(places_);
  cache->Add(slots_);
}

std::optional<Vocabulary> Vocabulary::Load(CacheReader* cache) {
  Vocabulary result;
  if (!cache->Read(&result.spellings_) || !cache->Read(&result.places_) ||
      !cache->Read(&result.slots_)) {
    return std::nullopt;
  }
  for (const Place& place : result.places_) {
    const int64_t end = int64_t{place.begin} + std::max(place.size, 0);
    if (place.size < -1 || end > static_cast<int64_t>(result.spellings_.size())) {
      return std::nullopt;
    }
  }
  size_t num_used = 0;
  for (const TokenId id : result.slots_) {
    if (id < kEmpty || id >= result.size()) return std::nullopt;
    num_used += id != kEmpty;
  }
  // A search ends at an empty slot.
  const bool is_table =
      std::has_single_bit(result.slots_.size()) && num_used < result.slots_.size();
  if (!is_table || result.size() > kMaxTokenId) return std::nullopt;
  return result;
}

// One byte more: the empty token has an address too.
Vocabulary::Vocabulary(size_t num_ids, size_t num_tokens, size_t num_bytes)
    : spellings_(num_bytes + 1, '\0'),
      places_(num_ids, Place()),
      slots_(std::bit_ceil(2 * num_tokens + 1), kEmpty) {}

void Vocabulary::Add(TokenId id, std::string_view token) {
  slots_.Mutable(Locate(token)) = id;
  places_.Mutable(static_cast<size_t>(id)) = {num_spelled_, static_cast<int32_t>(token.size())};
  std::copy(token.begin(), token.end(), &spellings_.Mutable(num_spelled_));
  num_spelled_ += static_cast<uint32_t>(token.size());
}

}  // namespace gale::text
