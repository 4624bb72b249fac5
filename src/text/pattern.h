// What normalizers and pre-tokenizers look for: {"String": ...} or {"Regex": ...} of
// tokenizer.json. The word patterns of the field are written out by hand (word_splitter.h). Other
// regular expressions run on PCRE2 with JIT; `tokenizers` runs them on Oniguruma, and the two agree
// on the patterns of the field (lookahead, Unicode classes) but for what pattern.cc levels out.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/word_splitter.h"

struct pcre2_real_code_8;

namespace gale::text {

/// A stretch of text between matches, or a match.
struct Segment {
  size_t begin = 0;
  size_t end = 0;
  bool is_match = false;
};

/// Immutable; may be used from any thread.
class Pattern {
 public:
  /// Errors: kDataCorrupt when empty or when the expression does not compile.
  static Result<Pattern> Parse(const JsonValue& value);
  static Result<Pattern> Literal(std::string_view text);
  static Result<Pattern> Regex(std::string_view expression);

  /// Appends matches and the text between them in order, with `offset` added to each position;
  /// empty stretches are left out. `text` must be valid UTF-8. A match that exceeds PCRE2's limits
  /// ends the search: the rest is one stretch without a match.
  void Split(std::string_view text, size_t offset, std::vector<Segment>* segments) const;

  /// The first position from `from` on where matches and the text between them certainly end,
  /// whatever stands around it; text.size() when none is known.
  size_t SafeCut(std::string_view text, size_t from) const;

  std::string ReplaceAll(std::string_view text, std::string_view replacement) const;

 private:
  using Literals = std::string;
  using Code = std::shared_ptr<const pcre2_real_code_8>;
  using Finder = std::variant<Literals, Code, WordSplitter>;

  explicit Pattern(Finder finder) : finder_(std::move(finder)) {}

  Finder finder_;
};

}  // namespace gale::text
