// Template source to syntax tree, by recursive descent over Jinja's grammar
// (jinja.palletsprojects.com/templates).
#pragma once

#include <string_view>

#include "text/jinja/ast.h"

namespace gale::jinja {

/// Throws TemplateError for what is not Jinja, is nested too deeply, or reads other templates.
Body Parse(std::string_view source);

}  // namespace gale::jinja
