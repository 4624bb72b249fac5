// Python's integers, which have no bound: those outside of 64 bits are kept behind a pointer.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "text/jinja/ast.h"

namespace gale::jinja {

/// Throws for division by zero, and for results over 16,384 bits: Python refuses to print those.
Value IntegerArithmetic(BinaryOp op, const Value& a, const Value& b);
/// -1, 0 or 1.
int CompareIntegers(const Value& a, const Value& b);
/// The same for integers and floats, exactly; 0 with a NaN.
int CompareNumbers(const Value& a, const Value& b);
/// The digits in base 2, 8, 10 or 16, lower case, behind a "-" if negative.
std::string IntegerText(const Value& integer, int base = 10);
double IntegerToDouble(const Value& integer);
/// The integer nearest to a finite number, toward zero.
Value IntegerFromDouble(double number);
/// int(text, base) without the white space around: a sign, "0x" and the like where the base asks
/// for it, "_" between digits. Base 0 goes by the prefix. Nothing when `text` is no such number.
std::optional<Value> ParseInteger(std::string_view text, int base);

}  // namespace gale::jinja
