// What one sequence's sampling parameters change about its logits: a record that a device reads,
// and the formulas that all devices share. Layer L1b; also compiled into device code.
#pragma once

#include <cstdint>
#include <limits>

#include "base/rng.h"  // GALE_HOST_DEVICE

namespace gale {

/// Logit of a banned token. Finite: were all tokens banned, one of them would still be drawn before
/// one that a mask forbids (whose logit is minus infinity). Its weight is 0 beside any other.
inline constexpr float kBannedLogit = -1e30F;

/// For the logit of a sequence's last token, wherever the history ends with the others and is
/// shorter than `until_length`.
struct SequenceBias {
  int32_t first_token = 0;  ///< index into the record's tokens
  int32_t num_tokens = 0;   ///< >= 1
  float bias = 0;           ///< is added; -infinity: the token is banned
  int32_t until_length = std::numeric_limits<int32_t>::max();

  GALE_HOST_DEVICE bool is_ban() const { return bias < kBannedLogit; }
};

/// Head of a record; `num_biases` SequenceBias follow, then the tokens. Finite biases are of
/// different tokens.
struct LogitsEdit {
  int32_t num_prompt = 0;        ///< so many tokens of the history were not drawn
  float repetition_penalty = 1;  ///< of tokens in the prompt or drawn (arXiv:1909.05858)
  float presence_penalty = 0;    ///< of drawn tokens
  float frequency_penalty = 0;   ///< of drawn tokens, for each time
  float dry_multiplier = 0;      ///< 0: off
  float dry_base = 0;
  int32_t dry_allowed_length = 0;
  int32_t dry_range = 0;     ///< looks at so many last tokens of the history
  int32_t num_breakers = 0;  ///< these come first among the tokens
  int32_t num_biases = 0;
  int32_t is_masked = 0;  ///< the sequence has a bitmask of allowed tokens

  GALE_HOST_DEVICE bool has_penalties() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
};

/// Bounds what a request may ask for; SamplingParams::Validate keeps within it.
inline constexpr int64_t kLogitsEditWords = 8192;

class LogitsEditRecord {
 public:
  GALE_HOST_DEVICE explicit LogitsEditRecord(const int32_t* words) : words_(words) {}

  GALE_HOST_DEVICE const LogitsEdit& edit() const {
    return *reinterpret_cast<const LogitsEdit*>(words_);
  }
  GALE_HOST_DEVICE const SequenceBias* biases() const {
    return reinterpret_cast<const SequenceBias*>(words_ + sizeof(LogitsEdit) / sizeof(int32_t));
  }
  GALE_HOST_DEVICE const int32_t* tokens() const {
    return reinterpret_cast<const int32_t*>(biases() + edit().num_biases);
  }
  GALE_HOST_DEVICE int32_t LastToken(const SequenceBias& bias) const {
    return tokens()[bias.first_token + bias.num_tokens - 1];
  }
  GALE_HOST_DEVICE bool Applies(const SequenceBias& bias, const int32_t* history,
                                int32_t length) const {
    const int32_t before = bias.num_tokens - 1;
    if (length >= bias.until_length || before > length) return false;
    for (int32_t i = 0; i < before; ++i) {
      if (tokens()[bias.first_token + i] != history[length - before + i]) return false;
    }
    return true;
  }
  GALE_HOST_DEVICE bool IsBreaker(int32_t token) const {
    for (int32_t i = 0; i < edit().num_breakers; ++i) {
      if (tokens()[i] == token) return true;
    }
    return false;
  }

  /// First position that DRY looks at.
  GALE_HOST_DEVICE int32_t DryBegin(int32_t length) const {
    return edit().dry_range < length ? length - edit().dry_range : 0;
  }
  /// The largest m such that history[end - m, end), from DryBegin on, equals the last m tokens of
  /// the history and has no breaker in it; bounded, so that a loop costs no square of its length.
  GALE_HOST_DEVICE int32_t DryMatch(const int32_t* history, int32_t end, int32_t length) const {
    constexpr int32_t kMaxMatch = 50;
    const int32_t begin = DryBegin(length);
    int32_t m = 0;
    while (m < kMaxMatch && end - m > begin && history[end - 1 - m] == history[length - 1 - m] &&
           !IsBreaker(history[length - 1 - m])) {
      ++m;
    }
    return m;
  }

 private:
  const int32_t* words_;
};

/// Logit of a token that is in the prompt or was drawn, after penalties.
GALE_HOST_DEVICE inline float Penalized(const LogitsEdit& edit, float logit, int32_t num_drawn) {
  const float repeated =
      logit > 0 ? logit / edit.repetition_penalty : logit * edit.repetition_penalty;
  if (num_drawn == 0) return repeated;
  return repeated - edit.presence_penalty - edit.frequency_penalty * static_cast<float>(num_drawn);
}

/// What DRY takes off the logit of a token that would continue a match of `match` tokens:
/// multiplier * base^(match - allowed length).
GALE_HOST_DEVICE inline float DryPenalty(const LogitsEdit& edit, int32_t match) {
  if (match < edit.dry_allowed_length) return 0;
  double penalty = edit.dry_multiplier;
  for (int32_t i = edit.dry_allowed_length; i < match; ++i) penalty *= edit.dry_base;
  return penalty < -double{kBannedLogit} ? static_cast<float>(penalty) : -kBannedLogit;
}

}  // namespace gale
