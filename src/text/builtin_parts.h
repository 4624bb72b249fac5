// Parts of tokenizers that no tokenizer.json describes, put together as one would.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "text/pre_tokenizer.h"

namespace gale::text {

/// One part of a tokenizer, written as in tokenizer.json.
template <class Part>
Result<Part> PartFromJson(const std::string& json) {
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(json, "built-in part"));
  return Part::Parse(document.root());
}

/// Cuts text by `pattern` into words of byte-level spelling.
inline Result<PreTokenizer> WordsOf(std::string_view pattern) {
  std::string quoted;
  for (const char c : pattern) {
    if (c == '\\' || c == '"') quoted.push_back('\\');
    quoted.push_back(c);
  }
  return PartFromJson<PreTokenizer>(fmt::format(
      R"({{"type": "Sequence", "pretokenizers": [
          {{"type": "Split", "pattern": {{"Regex": "{}"}}, "behavior": "Isolated"}},
          {{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}}]}})",
      quoted));
}

}  // namespace gale::text
