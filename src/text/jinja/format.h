// Python's two ways to format text: "%s" % x and "{}".format(x).
#pragma once

#include "text/jinja/value.h"

namespace gale::jinja {

// Both throw TemplateError where Python raises. What is inserted keeps its user marks.

/// format % argument: a tuple has the values in turn, a dict those for %(name)s.
MarkedString FormatPercent(Interpreter& interpreter, const MarkedString& format,
                           const Value& argument);
/// format.format(*arguments), with attributes, elements, conversions and format specs.
MarkedString FormatBraces(Interpreter& interpreter, const MarkedString& format,
                          const CallArguments& arguments);

}  // namespace gale::jinja
