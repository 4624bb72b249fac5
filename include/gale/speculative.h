// Speculative decoding: what guesses the next tokens, so that the model can check several of them
// in one step. The text is the one that it would say without. docs/speculative.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "gale/status.h"

namespace gale {

enum class Speculation : uint8_t {
  kOff,
  kAuto,    ///< of a model: n-gram; of a request: whatever the engine has
  kNgram,   ///< what followed the last few tokens when they came before, in prompt or text
  kDraft,   ///< a smaller model of the same vocabulary
  kEagle,   ///< an EAGLE-3 head: one layer over the model's states
  kMedusa,  ///< heads that each guess a token so far ahead
  kMtp,     ///< the model's own layer for the token after the next
};

/// "off", "auto", "ngram", "draft", "eagle", "medusa", "mtp"
std::string_view SpeculationName(Speculation method);
/// Errors: kInvalidArgument, which names the known ones.
Result<Speculation> ParseSpeculation(std::string_view name);

struct SpeculativeConfig {
  Speculation method = Speculation::kOff;
  std::string model;  ///< of kDraft as EngineConfig::model; of kEagle and kMedusa the head's folder
  int max_tokens = 0;  ///< most that are guessed at a time, [0, 32]; 0 = what suits the method
  /// How many tokens are guessed follows from what steps take and how many guesses are right, 0
  /// where it does not pay; else always max_tokens, if there are as many guesses.
  bool adaptive = true;
};

/// "off", "auto", "ngram", "draft:MODEL", "eagle:DIR", "medusa:DIR" or "mtp". Errors:
/// kInvalidArgument.
Result<SpeculativeConfig> ParseSpeculativeConfig(std::string_view text);

}  // namespace gale
