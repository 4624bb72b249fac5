// The "post_processor" of tokenizer.json: puts special tokens such as BOS around an encoded text.
#pragma once

#include <vector>

#include "base/json.h"
#include "gale/sampling_params.h"

namespace gale::text {

class PostProcessor {
 public:
  PostProcessor() = default;  ///< adds nothing
  static Result<PostProcessor> Parse(const JsonValue& value);

  /// Adds around what is there: in a sequence, each part wraps what the one before it made.
  void Wrap(const std::vector<TokenId>& before, const std::vector<TokenId>& after);

  const std::vector<TokenId>& before() const { return before_; }
  const std::vector<TokenId>& after() const { return after_; }

 private:
  Status AddTemplate(const JsonObject& object);
  Status AddEnds(const JsonObject& object);

  std::vector<TokenId> before_;
  std::vector<TokenId> after_;
};

}  // namespace gale::text
