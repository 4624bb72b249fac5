// The "normalizer" of tokenizer.json: rewrites text before it is cut into pieces.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/charsmap.h"
#include "text/pattern.h"
#include "text/sentencepiece_normalizer.h"

namespace gale::text {

/// True only if NFC neither changes `c` nor joins it to the character before it.
bool IsInertInNfc(char32_t c);

class Normalizer {
 public:
  Normalizer() = default;  ///< leaves text as it is
  explicit Normalizer(SentencePieceNormalizer rules) : sentencepiece_(std::move(rules)) {}
  static Result<Normalizer> Parse(const JsonValue& value);

  bool is_identity() const { return steps_.empty() && !sentencepiece_; }
  /// `text` must be valid UTF-8, and so is the result.
  std::string Normalize(std::string text, bool at_text_start = true) const;

 private:
  enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  /// What BERT did in Python: each a flag of its own.
  struct Bert {
    bool clean_text;            ///< drops control characters, makes all white space spaces
    bool handle_chinese_chars;  ///< puts spaces around ideographs
    bool strip_accents;
    bool lowercase;
  };
  struct Lowercase {};
  struct Strip {
    bool left;
    bool right;
  };
  struct StripAccents {};  ///< drops marks, so it wants a decomposed text
  struct ByteLevel {};
  struct Precompiled {
    Charsmap charsmap;
  };
  using Step = std::variant<UnicodeForm, Prepend, Replace, Bert, Lowercase, Strip, StripAccents,
                            ByteLevel, Precompiled>;

  static Result<Step> ParseStep(const JsonValue& at, std::string_view type,
                                const JsonObject& object);
  static Result<Step> ParseReplace(const JsonObject& object);
  static Result<Step> ParseBert(const JsonObject& object);
  static Result<Step> ParsePrecompiled(const JsonObject& object);
  static std::string Apply(UnicodeForm form, std::string text);
  static std::string Apply(const Prepend& prepend, std::string text);
  static std::string Apply(const Replace& replace, std::string text);
  static std::string Apply(const Bert& bert, std::string text);
  static std::string Apply(const Lowercase& lowercase, std::string text);
  static std::string Apply(const Strip& strip, std::string text);
  static std::string Apply(const StripAccents& strip_accents, std::string text);
  static std::string Apply(const ByteLevel& byte_level, std::string text);
  static std::string Apply(const Precompiled& precompiled, std::string text);

  std::vector<Step> steps_;
  std::optional<SentencePieceNormalizer> sentencepiece_;  ///< alone, if it is there
};

}  // namespace gale::text
