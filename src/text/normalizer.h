// The "normalizer" of tokenizer.json: rewrites text before it is cut into pieces.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace gale::text {

/// True only if NFC neither changes `c` nor joins it to the character before it.
bool IsInertInNfc(char32_t c);

class Normalizer {
 public:
  Normalizer() = default;  ///< leaves text as it is
  static Result<Normalizer> Parse(const JsonValue& value);

  bool is_identity() const { return steps_.empty(); }
  /// `text` must be valid UTF-8, and so is the result.
  std::string Normalize(std::string text) const;

 private:
  enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  using Step = std::variant<UnicodeForm, Prepend, Replace>;

  static std::string Apply(UnicodeForm form, std::string text);
  static std::string Apply(const Prepend& prepend, std::string text);
  static std::string Apply(const Replace& replace, std::string text);

  std::vector<Step> steps_;
};

}  // namespace gale::text
