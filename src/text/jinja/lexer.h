// Cuts template source into tokens, with Jinja's rules for white space around tags: trim_blocks and
// lstrip_blocks are on, as for every chat template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/template_error.h"

namespace gale::jinja {

struct Token {
  enum class Kind {
    kData,           ///< text between tags
    kVariableBegin,  ///< {{
    kVariableEnd,
    kBlockBegin,  ///< {%
    kBlockEnd,
    kName,
    kString,  ///< with its escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  std::string text;
  Position position;
};

/// The tokens of `source`, valid UTF-8; the last is kEnd. Throws TemplateError.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace gale::jinja
