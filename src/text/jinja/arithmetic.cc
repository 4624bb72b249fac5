#include "text/jinja/arithmetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "text/jinja/format.h"
#include "text/jinja/integer.h"
#include "text/jinja/interpreter.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

std::string_view Symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd: return "+";
    case BinaryOp::kSubtract: return "-";
    case BinaryOp::kMultiply: return "*";
    case BinaryOp::kDivide: return "/";
    case BinaryOp::kFloorDivide: return "//";
    case BinaryOp::kModulo: return "%";
    case BinaryOp::kPower: return "**";
    case BinaryOp::kConcat: return "~";
  }
  return "?";
}

[[noreturn]] void FailTypes(BinaryOp op, const Value& a, const Value& b) {
  if (a.is_undefined()) throw TemplateError(a.UndefinedWhat());
  if (b.is_undefined()) throw TemplateError(b.UndefinedWhat());
  if (op == BinaryOp::kAdd && a.is_string()) {
    throw TemplateError(fmt::format("can only concatenate str (not \"{}\") to str", b.TypeName()));
  }
  throw TemplateError(fmt::format("unsupported operand types for {}: '{}' and '{}'", Symbol(op),
                                  a.TypeName(), b.TypeName()));
}

/// Python's floor division and remainder, in this order; the remainder has the divisor's sign.
std::pair<double, double> FloorDivide(double a, double b) {
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (quotient == 0) return {std::copysign(0.0, a / b), remainder};
  const double floor = std::floor(quotient);
  return {quotient - floor > 0.5 ? floor + 1 : floor, remainder};
}

Value FloatPower(double base, double exponent) {
  if (base == 0 && exponent < 0) {
    throw TemplateError("0.0 cannot be raised to a negative power");
  }
  if (base < 0 && std::isfinite(base) && exponent != std::floor(exponent)) {
    throw TemplateError("a negative number to a broken power is complex; there are none here");
  }
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) {
    throw TemplateError("the result of ** is too large for a float");
  }
  return Value::Float(result);
}

Value FloatArithmetic(BinaryOp op, double a, double b) {
  const bool divides =
      op == BinaryOp::kDivide || op == BinaryOp::kFloorDivide || op == BinaryOp::kModulo;
  if (divides && b == 0) throw TemplateError("division by zero");
  switch (op) {
    case BinaryOp::kAdd: return Value::Float(a + b);
    case BinaryOp::kSubtract: return Value::Float(a - b);
    case BinaryOp::kMultiply: return Value::Float(a * b);
    case BinaryOp::kDivide: return Value::Float(a / b);
    case BinaryOp::kFloorDivide: return Value::Float(FloorDivide(a, b).first);
    case BinaryOp::kModulo: return Value::Float(FloorDivide(a, b).second);
    case BinaryOp::kPower: return FloatPower(a, b);
    case BinaryOp::kConcat: break;
  }
  return {};
}

/// List or tuple, as the operand was.
List::Shape ShapeOfCopy(const List& list) {
  return list.is_tuple() ? List::Shape::kTuple : List::Shape::kList;
}

bool IsListOrTuple(const Value& value) {
  return value.is_list() &&
         (value.AsList().is_tuple() || value.AsList().shape == List::Shape::kList);
}

/// A slice of a range is one too; `bounds` are of the slice, within the range or one off its ends.
Value SliceOfRange(Interpreter& interpreter, const List& range, std::vector<Value> items,
                   std::array<int64_t, 3> bounds) {
  const Value result = interpreter.NewList(std::move(items), List::Shape::kRange);
  // What wraps around stands for ends beyond 64 bits, which are not counted to.
  const auto at = [&](int64_t index) {
    return static_cast<int64_t>(static_cast<uint64_t>(range.range_start) +
                                static_cast<uint64_t>(index) *
                                    static_cast<uint64_t>(range.range_step));
  };
  const auto step = static_cast<int64_t>(static_cast<uint64_t>(range.range_step) *
                                         static_cast<uint64_t>(bounds[2]));
  result.AsList().SetRange(at(bounds[0]), at(bounds[1]), step);
  return result;
}

Value Repeat(Interpreter& interpreter, const Value& sequence, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t size = sequence.is_string() ? sequence.bytes().size()
                                           : sequence.AsList().items.size() * sizeof(Value);
  if (size > 0 && times > std::numeric_limits<uint32_t>::max() / size) {
    throw TemplateError("a repetition is too long");
  }
  interpreter.Charge(size * times);
  if (sequence.is_string()) {
    MarkedString text;
    if (size > 0) {
      for (size_t i = 0; i < times; ++i) text.Append(sequence.AsString());
    }
    return Value::String(std::move(text));
  }
  std::vector<Value> items;
  const auto& source = sequence.AsList().items;
  for (size_t i = 0; i < times && !source.empty(); ++i) {
    items.insert(items.end(), source.begin(), source.end());
  }
  return interpreter.NewList(std::move(items), ShapeOfCopy(sequence.AsList()));
}

}  // namespace

Value Arithmetic(Interpreter& interpreter, BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::kConcat || (op == BinaryOp::kAdd && a.is_string() && b.is_string())) {
    MarkedString text = ToText(a);
    text.Append(ToText(b));
    return interpreter.NewString(std::move(text));
  }
  if (a.is_integral() && b.is_integral()) return IntegerArithmetic(op, a, b);
  if (a.is_number() && b.is_number()) return FloatArithmetic(op, a.AsFloat(), b.AsFloat());
  if (op == BinaryOp::kModulo && a.is_string()) {
    return interpreter.NewString(FormatPercent(interpreter, a.AsString(), b));
  }
  if (op == BinaryOp::kMultiply) {
    const bool a_repeats = a.is_string() || IsListOrTuple(a);
    if (a_repeats && b.is_integral()) return Repeat(interpreter, a, b.AsInt());
    if (a.is_integral() && (b.is_string() || IsListOrTuple(b)))
      return Repeat(interpreter, b, a.AsInt());
  }
  if (op == BinaryOp::kAdd && IsListOrTuple(a) && IsListOrTuple(b) &&
      a.AsList().is_tuple() == b.AsList().is_tuple()) {
    std::vector<Value> items = a.AsList().items;
    items.insert(items.end(), b.AsList().items.begin(), b.AsList().items.end());
    return interpreter.NewList(std::move(items), ShapeOfCopy(a.AsList()));
  }
  FailTypes(op, a, b);
}

Value Negate(const Value& value) {
  if (value.is_float()) return Value::Float(-value.AsFloat());
  if (value.is_integral()) return IntegerArithmetic(BinaryOp::kSubtract, Value::Int(0), value);
  if (value.is_undefined()) throw TemplateError(value.UndefinedWhat());
  throw TemplateError(fmt::format("bad operand type for unary -: '{}'", value.TypeName()));
}

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t pos = 0; pos < text.size(); pos += text::Utf8Size(text[pos])) offsets.push_back(pos);
  offsets.push_back(text.size());
  return offsets;
}

Value Slice(Interpreter& interpreter, const Value& object, const Value& begin, const Value& end,
            const Value& step) {
  if (object.is_undefined()) throw TemplateError(object.UndefinedWhat());
  const bool has_elements =
      object.is_string() || (object.is_list() && object.AsList().is_indexed());
  if (!has_elements) {
    throw TemplateError(fmt::format("'{}' object cannot be sliced", object.TypeName()));
  }
  const auto number = [](const Value& value, int64_t fallback) {
    if (value.is_undefined() || value.is_none()) return fallback;
    if (!value.is_integral()) throw TemplateError("slice indices must be integers");
    return value.AsInt();
  };
  const std::vector<size_t> offsets =
      object.is_string() ? CharacterOffsets(object.bytes()) : std::vector<size_t>();
  const auto size =
      static_cast<int64_t>(object.is_string() ? offsets.size() - 1 : object.AsList().items.size());
  const int64_t stride = number(step, 1);
  if (stride == 0) throw TemplateError("slice step cannot be zero");
  // Python's slice.indices().
  const int64_t lowest = stride > 0 ? 0 : -1;
  const int64_t highest = stride > 0 ? size : size - 1;
  const auto clamp = [&](const Value& value, int64_t fallback) {
    int64_t index = number(value, fallback);
    const bool given = !value.is_undefined() && !value.is_none();
    if (given && index < 0) index = index < -size ? lowest : index + size;
    return std::min(std::max(index, lowest), highest);
  };
  const int64_t from = clamp(begin, stride > 0 ? lowest : highest);
  const int64_t to = clamp(end, stride > 0 ? highest : lowest);

  if (object.is_string() && stride == 1) {
    return interpreter.NewString(object.AsString().Slice(
        offsets[static_cast<size_t>(from)], offsets[static_cast<size_t>(std::max(from, to))]));
  }
  const int64_t jump = stride > 0 ? std::min(stride, size + 1) : std::max(stride, -size - 1);
  std::vector<size_t> picked;
  for (int64_t i = from; jump > 0 ? i < to : i > to; i += jump)
    picked.push_back(static_cast<size_t>(i));
  interpreter.Charge(picked.size() * sizeof(Value));
  if (object.is_list()) {
    std::vector<Value> items;
    const List& list = object.AsList();
    for (const size_t i : picked) items.push_back(list.items[i]);
    if (list.shape != List::Shape::kRange) {
      return interpreter.NewList(std::move(items), ShapeOfCopy(list));
    }
    return SliceOfRange(interpreter, list, std::move(items), {from, to, stride});
  }
  const MarkedString& text = object.AsString();
  interpreter.Charge(text.marks().size() * picked.size());
  MarkedString result;
  for (const size_t i : picked) result.Append(text.Slice(offsets[i], offsets[i + 1]));
  return interpreter.NewString(std::move(result));
}

}  // namespace gale::jinja
