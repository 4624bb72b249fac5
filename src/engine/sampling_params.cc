#include "gale/sampling_params.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kMaxSamples = 1024;
constexpr int kMaxLogprobs = 20;
constexpr float kMaxTemperature = 1e4F;
constexpr int kMaxBeams = 10;
// Together within kLogitsEditWords.
constexpr size_t kMaxBiases = 1000;
constexpr size_t kMaxBadSequences = 256;
constexpr size_t kMaxBadTokens = 1024;
constexpr size_t kMaxBreakers = 64;
constexpr size_t kMaxMinTokenStops = 128;

template <class T>
Status OutOfRange(std::string_view field, std::string_view range, T value) {
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: expected {}, got {}", field, range, value));
}

/// NaN fails: every comparison with it is false.
Status CheckNumber(std::string_view field, float value, float min, float max) {
  if (value >= min && value <= max) return {};
  return OutOfRange(field, fmt::format("a number in [{}, {}]", min, max), value);
}

Status CheckAbove(std::string_view field, float value, float bound, float max) {
  if (value > bound && value <= max) return {};
  return OutOfRange(field, fmt::format("a number in ({}, {}]", bound, max), value);
}

Status CheckInt(std::string_view field, int value, int min, int max) {
  if (value >= min && value <= max) return {};
  return OutOfRange(field, fmt::format("a number in [{}, {}]", min, max), value);
}

Status CheckLogprobs(std::string_view field, std::optional<int> count) {
  return count ? CheckInt(field, *count, 0, kMaxLogprobs) : Status();
}

Status CheckCount(std::string_view field, std::string_view what, size_t count, size_t most) {
  if (count <= most) return {};
  return OutOfRange(field, fmt::format("at most {} {}", most, what), count);
}

Status CheckTexts(std::string_view field, const std::vector<std::string>& texts) {
  if (std::ranges::none_of(texts, &std::string::empty)) return {};
  return MakeError(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: expected strings of at least one byte, got an empty one", field));
}

Status CheckTokens(std::string_view field, const std::vector<TokenId>& tokens) {
  for (const TokenId token : tokens) {
    if (token < 0) return OutOfRange(field, "token ids >= 0", token);
  }
  return {};
}

Status CheckFilters(const SamplingParams& p) {
  GALE_RETURN_IF_ERROR(CheckNumber("temperature", p.temperature, 0, kMaxTemperature));
  if (p.top_k < 0) return OutOfRange("top_k", "a number >= 0 (0 = off)", p.top_k);
  GALE_RETURN_IF_ERROR(CheckAbove("top_p", p.top_p, 0, 1));
  GALE_RETURN_IF_ERROR(CheckNumber("min_p", p.min_p, 0, 1));
  GALE_RETURN_IF_ERROR(CheckAbove("typical_p", p.typical_p, 0, 1));
  GALE_RETURN_IF_ERROR(CheckNumber("top_n_sigma", p.top_n_sigma, 0, 1000));
  GALE_RETURN_IF_ERROR(CheckNumber("xtc_probability", p.xtc_probability, 0, 1));
  GALE_RETURN_IF_ERROR(CheckNumber("xtc_threshold", p.xtc_threshold, 0, 1));
  if (p.mirostat != 0 && p.mirostat != 2) {
    return OutOfRange("mirostat", "0 (off) or 2 (version 2)", p.mirostat);
  }
  GALE_RETURN_IF_ERROR(CheckAbove("mirostat_tau", p.mirostat_tau, 0, 100));
  return CheckAbove("mirostat_eta", p.mirostat_eta, 0, 10);
}

Status CheckPenalties(const SamplingParams& p) {
  GALE_RETURN_IF_ERROR(CheckAbove("repetition_penalty", p.repetition_penalty, 0, 100));
  GALE_RETURN_IF_ERROR(CheckNumber("presence_penalty", p.presence_penalty, -2, 2));
  GALE_RETURN_IF_ERROR(CheckNumber("frequency_penalty", p.frequency_penalty, -2, 2));
  GALE_RETURN_IF_ERROR(CheckNumber("dry_multiplier", p.dry_multiplier, 0, 1000));
  GALE_RETURN_IF_ERROR(CheckNumber("dry_base", p.dry_base, 1, 10));
  if (p.dry_allowed_length < 1) {
    return OutOfRange("dry_allowed_length", "a number >= 1", p.dry_allowed_length);
  }
  if (p.dry_range < 0) return OutOfRange("dry_range", "a number >= 0 (0 = all)", p.dry_range);
  GALE_RETURN_IF_ERROR(CheckTexts("dry_breakers", p.dry_breakers));
  GALE_RETURN_IF_ERROR(CheckTokens("dry_breaker_ids", p.dry_breaker_ids));
  return CheckCount("dry_breakers", "texts and ids",
                    p.dry_breakers.size() + p.dry_breaker_ids.size(), kMaxBreakers);
}

Status CheckBiases(const SamplingParams& p) {
  GALE_RETURN_IF_ERROR(CheckCount("logit_bias", "tokens", p.logit_bias.size(), kMaxBiases));
  std::vector<TokenId> biased;
  for (const LogitBias& entry : p.logit_bias) {
    GALE_RETURN_IF_ERROR(CheckNumber("logit_bias", entry.bias, -100, 100));
    biased.push_back(entry.token);
  }
  GALE_RETURN_IF_ERROR(CheckTokens("logit_bias", biased));
  std::ranges::sort(biased);
  if (const auto twice = std::ranges::adjacent_find(biased); twice != biased.end()) {
    return OutOfRange("logit_bias", "different tokens", fmt::format("{} twice", *twice));
  }
  return {};
}

Status CheckBans(const SamplingParams& p) {
  GALE_RETURN_IF_ERROR(CheckTokens("allowed_token_ids", p.allowed_token_ids));
  GALE_RETURN_IF_ERROR(CheckTexts("bad_words", p.bad_words));
  size_t num_tokens = 0;
  for (const std::vector<TokenId>& sequence : p.bad_token_ids) {
    if (sequence.empty()) {
      return OutOfRange("bad_token_ids", "sequences of at least one token", "an empty one");
    }
    GALE_RETURN_IF_ERROR(CheckTokens("bad_token_ids", sequence));
    num_tokens += sequence.size();
  }
  GALE_RETURN_IF_ERROR(
      CheckCount("bad_words", "token sequences (a text gives up to two; bad_token_ids count)",
                 p.bad_token_ids.size() + 2 * p.bad_words.size(), kMaxBadSequences));
  GALE_RETURN_IF_ERROR(CheckCount("bad_words", "tokens", num_tokens, kMaxBadTokens));
  if (p.min_tokens < 0 || p.min_tokens > p.max_tokens) {
    return OutOfRange("min_tokens", fmt::format("a number in [0, {}] (max_tokens)", p.max_tokens),
                      p.min_tokens);
  }
  if (p.min_tokens > 0) {
    return CheckCount("stop_token_ids", "ids with min_tokens", p.stop_token_ids.size(),
                      kMaxMinTokenStops);
  }
  return {};
}

/// Beam search ranks the model's own log-probabilities.
Status CheckBeams(const SamplingParams& p) {
  GALE_RETURN_IF_ERROR(CheckInt("num_beams", p.num_beams, 1, kMaxBeams));
  GALE_RETURN_IF_ERROR(CheckNumber("length_penalty", p.length_penalty, -100, 100));
  if (p.num_beams == 1) return {};
  const auto refuse = [](std::string_view field, std::string_view off) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected {} with num_beams, which ranks the model's own "
                                 "log-probabilities",
                                 field, off));
  };
  if (p.n > p.num_beams) {
    return OutOfRange("n", fmt::format("at most num_beams, {}", p.num_beams), p.n);
  }
  if (p.best_of) return refuse("best_of", "none");
  if (p.max_tokens == 0) return refuse("max_tokens", "at least 1");
  if (p.prompt_logprobs) return refuse("prompt_logprobs", "none");
  if (p.repetition_penalty != 1) return refuse("repetition_penalty", "1");
  if (p.presence_penalty != 0) return refuse("presence_penalty", "0");
  if (p.frequency_penalty != 0) return refuse("frequency_penalty", "0");
  if (p.dry_multiplier != 0) return refuse("dry_multiplier", "0");
  if (!p.logit_bias.empty()) return refuse("logit_bias", "none");
  if (!p.allowed_token_ids.empty()) return refuse("allowed_token_ids", "none");
  if (!p.bad_words.empty()) return refuse("bad_words", "none");
  if (!p.bad_token_ids.empty()) return refuse("bad_token_ids", "none");
  return {};
}

}  // namespace

Status SamplingParams::Validate() const {
  GALE_RETURN_IF_ERROR(CheckFilters(*this));
  GALE_RETURN_IF_ERROR(CheckPenalties(*this));
  GALE_RETURN_IF_ERROR(CheckInt("n", n, 1, kMaxSamples));
  if (best_of) GALE_RETURN_IF_ERROR(CheckInt("best_of", *best_of, n, kMaxSamples));
  if (max_tokens < 0) return OutOfRange("max_tokens", "a number >= 0", max_tokens);
  GALE_RETURN_IF_ERROR(CheckTexts("stop", stop));
  GALE_RETURN_IF_ERROR(CheckTokens("stop_token_ids", stop_token_ids));
  GALE_RETURN_IF_ERROR(CheckBiases(*this));
  GALE_RETURN_IF_ERROR(CheckBans(*this));
  GALE_RETURN_IF_ERROR(CheckBeams(*this));
  GALE_RETURN_IF_ERROR(CheckLogprobs("logprobs", logprobs));
  return CheckLogprobs("prompt_logprobs", prompt_logprobs);
}

}  // namespace gale
