#include "engine/resolve_sampling.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

Status NoTokenizer(std::string_view field, std::string_view instead) {
  return MakeError(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: this model has no tokenizer, so there is no text; use {}", field, instead));
}

Status CheckTokenIds(std::string_view what, const std::vector<TokenId>& tokens, int vocab_size) {
  for (const TokenId token : tokens) GALE_RETURN_IF_ERROR(CheckTokenId(what, token, vocab_size));
  return {};
}

/// In the middle of a text a word has a space before it, which mostly is part of its first token.
void AddBadWords(const Tokenizer& tokenizer, SamplingParams& sampling) {
  std::vector<std::vector<TokenId>>& sequences = sampling.bad_token_ids;
  for (const std::string& word : sampling.bad_words) {
    for (const char* before : {"", " "}) {
      std::vector<TokenId> tokens = tokenizer.Encode(before + word, {.add_special_tokens = false});
      const bool is_new = std::ranges::find(sequences, tokens) == sequences.end();
      if (!tokens.empty() && is_new) sequences.push_back(std::move(tokens));
    }
  }
  sampling.bad_words.clear();
}

/// The token that a breaker becomes behind other text.
void AddBreakers(const Tokenizer& tokenizer, SamplingParams& sampling) {
  for (const std::string& breaker : sampling.dry_breakers) {
    const std::vector<TokenId> tokens =
        tokenizer.Encode("a" + breaker, {.add_special_tokens = false});
    if (!tokens.empty()) sampling.dry_breaker_ids.push_back(tokens.back());
  }
  sampling.dry_breakers.clear();
}

bool IsBanned(const SamplingParams& sampling, TokenId token) {
  return std::ranges::any_of(sampling.bad_token_ids, [=](const std::vector<TokenId>& sequence) {
    return sequence.size() == 1 && sequence[0] == token;
  });
}

}  // namespace

Status CheckTokenId(std::string_view what, TokenId token, int vocab_size) {
  if (token >= 0 && token < vocab_size) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: expected token ids in [0, {}), the model's vocabulary; got {}",
                               what, vocab_size, token));
}

Result<SamplingParams> ResolveSampling(SamplingParams sampling, const ModelInfo& info,
                                       const Tokenizer* tokenizer) {
  const int vocab = info.vocab_size;
  GALE_RETURN_IF_ERROR(CheckTokenIds("stop_token_ids", sampling.stop_token_ids, vocab));
  GALE_RETURN_IF_ERROR(CheckTokenIds("allowed_token_ids", sampling.allowed_token_ids, vocab));
  GALE_RETURN_IF_ERROR(CheckTokenIds("dry_breaker_ids", sampling.dry_breaker_ids, vocab));
  for (const std::vector<TokenId>& sequence : sampling.bad_token_ids) {
    GALE_RETURN_IF_ERROR(CheckTokenIds("bad_token_ids", sequence, vocab));
  }
  for (const LogitBias& bias : sampling.logit_bias) {
    GALE_RETURN_IF_ERROR(CheckTokenId("logit_bias", bias.token, vocab));
  }
  if (tokenizer != nullptr) {
    AddBadWords(*tokenizer, sampling);
    if (sampling.dry_multiplier > 0) AddBreakers(*tokenizer, sampling);
  } else {
    if (!sampling.stop.empty()) {
      return tl::unexpected(NoTokenizer("stop", "stop_token_ids").error());
    }
    if (!sampling.bad_words.empty()) {
      return tl::unexpected(NoTokenizer("bad_words", "bad_token_ids").error());
    }
  }
  GALE_RETURN_IF_ERROR(sampling.Validate());  // texts may have become too many tokens
  const std::vector<TokenId>& allowed = sampling.allowed_token_ids;
  const bool leaves_none =
      std::ranges::all_of(allowed, [&](TokenId token) { return IsBanned(sampling, token); });
  if (!allowed.empty() && leaves_none) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "allowed_token_ids: expected one that bad_words do not ban, got none");
  }
  return sampling;
}

}  // namespace gale
