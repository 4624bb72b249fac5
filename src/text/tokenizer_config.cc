#include "text/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "text/component.h"

namespace gale::text {
namespace {

/// "bos_token" is a string, or an object with the string as its "content".
Result<std::string> SpecialToken(const JsonObject& object, std::string_view key) {
  auto value = object.Find(key);
  if (!value) return std::string();
  if (value->is_object()) {
    GALE_ASSIGN_OR_RETURN(const JsonObject token, value->Object());
    GALE_ASSIGN_OR_RETURN(value, token.Get("content"));
  }
  GALE_ASSIGN_OR_RETURN(const std::string_view text, value->String());
  return std::string(text);
}

Result<std::optional<bool>> OptionalBool(const JsonObject& object, std::string_view key) {
  const auto value = object.Find(key);
  if (!value) return std::nullopt;
  GALE_ASSIGN_OR_RETURN(const bool flag, value->Bool());
  return flag;
}

/// "added_tokens_decoder": {"7": {"content": ...}}.
Status ParseAddedTokensDecoder(const JsonObject& object, std::vector<AddedToken>* tokens) {
  return object.ForEach([&](std::string_view key, const JsonValue& value) -> Status {
    TokenId id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= kMaxTokenId) {
      return tl::unexpected(value.Wrong("a key that is a token's id"));
    }
    GALE_ASSIGN_OR_RETURN(const JsonObject entry, value.Object());
    GALE_ASSIGN_OR_RETURN(AddedToken token, AddedToken::Parse(entry, id));
    tokens->push_back(std::move(token));
    return {};
  });
}

Status ParseConfig(const JsonObject& object, TokenizerConfig* config) {
  GALE_ASSIGN_OR_RETURN(config->tokenizer_class, StringOr(object, "tokenizer_class", ""));
  GALE_ASSIGN_OR_RETURN(config->add_bos_token, OptionalBool(object, "add_bos_token"));
  GALE_ASSIGN_OR_RETURN(config->add_eos_token, OptionalBool(object, "add_eos_token"));
  GALE_ASSIGN_OR_RETURN(config->add_prefix_space, BoolOr(object, "add_prefix_space", false));
  GALE_ASSIGN_OR_RETURN(config->bos_token, SpecialToken(object, "bos_token"));
  GALE_ASSIGN_OR_RETURN(config->eos_token, SpecialToken(object, "eos_token"));
  config->special_tokens = {config->bos_token, config->eos_token};
  if (const auto list = object.Find("additional_special_tokens")) {
    GALE_ASSIGN_OR_RETURN(const std::vector<JsonValue> items, list->Items());
    for (const JsonValue& item : items) {
      if (item.is_string()) config->special_tokens.emplace_back(*item.String());
    }
  }
  const auto decoder = object.Find("added_tokens_decoder");
  if (!decoder) return {};
  GALE_ASSIGN_OR_RETURN(const JsonObject tokens, decoder->Object());
  return ParseAddedTokensDecoder(tokens, &config->added_tokens);
}

/// added_tokens.json: {"<|im_end|>": 7}, which older models have in place of the decoder.
Status ParseAddedTokens(const JsonObject& object, TokenizerConfig* config) {
  return object.ForEach([&](std::string_view content, const JsonValue& value) -> Status {
    GALE_ASSIGN_OR_RETURN(const int64_t id, value.Int(0, kMaxTokenId - 1));
    const bool is_known =
        std::any_of(config->added_tokens.begin(), config->added_tokens.end(),
                    [&](const AddedToken& token) { return token.content == content; });
    if (is_known) return {};
    AddedToken token = AddedToken::Special(content, static_cast<TokenId>(id));
    const auto& special = config->special_tokens;
    token.special = std::find(special.begin(), special.end(), content) != special.end();
    config->added_tokens.push_back(std::move(token));
    return {};
  });
}

Status ParseFile(const std::filesystem::path& path, TokenizerConfig* config,
                 Status (*parse)(const JsonObject&, TokenizerConfig*)) {
  if (!std::filesystem::exists(path)) return {};
  GALE_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path.string()));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(text, path.string()));
  GALE_ASSIGN_OR_RETURN(const JsonObject object, document.root().Object());
  return parse(object, config);
}

}  // namespace

Result<TokenizerConfig> TokenizerConfig::FromFolder(const std::string& folder) {
  const std::filesystem::path path(folder);
  TokenizerConfig config;
  GALE_RETURN_IF_ERROR(ParseFile(path / "tokenizer_config.json", &config, ParseConfig));
  GALE_RETURN_IF_ERROR(ParseFile(path / "added_tokens.json", &config, ParseAddedTokens));
  return config;
}

Result<std::string> ReadTextFile(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("{}: cannot be read ({})", path, error.message()));
  }
  if (size > kMaxTokenizerFileBytes) {
    return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: has {} bytes, at most {} are read",
                                                          path, size, kMaxTokenizerFileBytes));
  }
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return MakeError(ErrorCode::kNotFound, fmt::format("{}: cannot be read", path));
  }
  return text;
}

}  // namespace gale::text
