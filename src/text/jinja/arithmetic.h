// Python's operators on values.
#pragma once

#include "text/jinja/ast.h"

namespace gale::jinja {

class Interpreter;

/// Throws TemplateError where Python raises.
Value Arithmetic(Interpreter& interpreter, BinaryOp op, const Value& a, const Value& b);
Value Negate(const Value& value);
/// object[begin:end:step]; bounds may be undefined for none given.
Value Slice(Interpreter& interpreter, const Value& object, const Value& begin, const Value& end,
            const Value& step);
/// The byte offset of each character of valid UTF-8, and the size at the end.
std::vector<size_t> CharacterOffsets(std::string_view text);

}  // namespace gale::jinja
