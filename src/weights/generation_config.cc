#include "weights/generation_config.h"

#include "base/status_macros.h"

namespace gale {
namespace {

Status ReadNumber(const JsonObject& root, std::string_view key, double min, double max,
                  float& number) {
  const auto value = root.Find(key);
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const double read, value->Number(min, max));
  number = static_cast<float>(read);
  return {};
}

Status ReadInt(const JsonObject& root, std::string_view key, int64_t max, int& integer) {
  const auto value = root.Find(key);
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const int64_t read, value->Int(0, max));
  integer = static_cast<int>(read);
  return {};
}

Result<std::vector<TokenId>> TokenIds(const std::vector<JsonValue>& items, int vocab_size) {
  std::vector<TokenId> ids;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(const int64_t id, item.Int(0, vocab_size - 1));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

Status ReadBadWords(const JsonObject& root, int vocab_size,
                    std::vector<std::vector<TokenId>>& sequences) {
  const auto value = root.Find("bad_words_ids");
  if (!value) return {};
  return value->ForEachItem([&](const JsonValue& item) -> Status {
    GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, item.Items());
    GALE_ASSIGN_OR_RETURN(std::vector<TokenId> ids, TokenIds(items, vocab_size));
    if (!ids.empty()) sequences.push_back(std::move(ids));
    return {};
  });
}

}  // namespace

Result<std::vector<TokenId>> ParseTokenIds(const JsonObject& root, std::string_view key,
                                           int vocab_size) {
  const auto value = root.Find(key);
  if (!value) return std::vector<TokenId>();
  std::vector<JsonValue> items = {*value};
  if (value->is_array()) {
    GALE_ASSIGN_OR_RETURN(items, value->Items());
  }
  return TokenIds(items, vocab_size);
}

Result<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& source,
                                               int vocab_size) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(json, source));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GenerationConfig config;
  SamplingParams& sampling = config.sampling;
  // The bounds of SamplingParams::Validate.
  constexpr double kAboveZero = 1e-9;
  constexpr int kMaxTokens = 1 << 30;
  GALE_RETURN_IF_ERROR(ReadNumber(root, "temperature", 0, 1e4, sampling.temperature));
  // The value 0 means "off" to transformers and to us.
  GALE_RETURN_IF_ERROR(ReadInt(root, "top_k", kMaxTokens, sampling.top_k));
  GALE_RETURN_IF_ERROR(ReadNumber(root, "top_p", kAboveZero, 1, sampling.top_p));
  GALE_RETURN_IF_ERROR(ReadNumber(root, "min_p", 0, 1, sampling.min_p));
  GALE_RETURN_IF_ERROR(ReadNumber(root, "typical_p", kAboveZero, 1, sampling.typical_p));
  GALE_RETURN_IF_ERROR(
      ReadNumber(root, "repetition_penalty", kAboveZero, 100, sampling.repetition_penalty));
  GALE_RETURN_IF_ERROR(ReadBadWords(root, vocab_size, sampling.bad_token_ids));
  GALE_RETURN_IF_ERROR(ReadInt(root, "max_new_tokens", kMaxTokens, sampling.max_tokens));
  GALE_RETURN_IF_ERROR(ReadInt(root, "min_new_tokens", sampling.max_tokens, sampling.min_tokens));
  // transformers decodes greedily unless told to sample; only an explicit "false" is advice.
  if (const auto do_sample = root.Find("do_sample")) {
    GALE_ASSIGN_OR_RETURN(const bool sample, do_sample->Bool());
    if (!sample) sampling.temperature = 0;
  }
  GALE_ASSIGN_OR_RETURN(config.eos_token_ids, ParseTokenIds(root, "eos_token_id", vocab_size));
  return config;
}

}  // namespace gale
