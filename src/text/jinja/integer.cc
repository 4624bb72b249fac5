#include "text/jinja/integer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include <boost/multiprecision/cpp_int.hpp>

namespace gale::jinja {

struct BigInteger {
  boost::multiprecision::cpp_int value;
};

namespace {

using boost::multiprecision::cpp_int;

constexpr unsigned kMaxBits = 1 << 14;

cpp_int Wide(const Value& integer) {
  return integer.is_big_int() ? integer.AsBigInt().value : cpp_int(integer.AsInt());
}

unsigned NumBits(const cpp_int& number) {
  return number == 0 ? 0 : static_cast<unsigned>(msb(abs(number))) + 1;
}

Value Narrow(cpp_int number) {
  if (number >= std::numeric_limits<int64_t>::min() &&
      number <= std::numeric_limits<int64_t>::max()) {
    return Value::Int(static_cast<int64_t>(number));
  }
  if (NumBits(number) > kMaxBits) throw TemplateError("an integer has more than 16,384 bits");
  return Value::BigInt(std::make_shared<const BigInteger>(BigInteger{std::move(number)}));
}

std::pair<cpp_int, cpp_int> FloorDivide(const cpp_int& a, const cpp_int& b) {
  cpp_int quotient;
  cpp_int remainder;
  divide_qr(a, b, quotient, remainder);
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    --quotient;
    remainder += b;
  }
  return {std::move(quotient), std::move(remainder)};
}

Value TrueDivide(const Value& a, const Value& b) {
  cpp_int numerator = Wide(a);
  cpp_int denominator = Wide(b);
  // Beyond 53 bits the quotient of the long doubles is at most one rounding away from Python's.
  constexpr unsigned kKeptBits = 1000;
  const unsigned num_bits = std::max(NumBits(numerator), NumBits(denominator));
  if (num_bits > kKeptBits) {
    numerator >>= num_bits - kKeptBits;
    denominator >>= num_bits - kKeptBits;
  }
  const double quotient = denominator == 0
                              ? std::numeric_limits<double>::infinity()
                              : static_cast<double>(numerator.convert_to<long double>() /
                                                    denominator.convert_to<long double>());
  if (!std::isfinite(quotient)) {
    throw TemplateError("integer division result too large for a float");
  }
  return Value::Float(quotient);
}

Value Power(const Value& base, const Value& exponent) {
  if (CompareIntegers(exponent, Value::Int(0)) < 0) {
    if (!base.Truth()) throw TemplateError("0.0 cannot be raised to a negative power");
    return Value::Float(std::pow(base.AsFloat(), exponent.AsFloat()));
  }
  const cpp_int number = Wide(base);
  const bool grows = number > 1 || number < -1;
  const auto too_many_bits = [&] {
    return exponent.is_big_int() || exponent.AsInt() > kMaxBits ||
           static_cast<uint64_t>(exponent.AsInt()) * msb(abs(number)) > kMaxBits;
  };
  if (grows && too_many_bits()) {
    throw TemplateError("an integer has more than 16,384 bits");
  }
  // Of 0, 1 and -1 the power depends on no more than whether the exponent is zero, and even.
  const auto times =
      static_cast<unsigned>(grows              ? exponent.AsInt()
                            : exponent.Truth() ? 2 - (Wide(exponent) % 2 != 0 ? 1 : 0)
                                               : 0);
  return Narrow(pow(number, times));
}

}  // namespace

Value IntegerArithmetic(BinaryOp op, const Value& a, const Value& b) {
  const bool divides =
      op == BinaryOp::kDivide || op == BinaryOp::kFloorDivide || op == BinaryOp::kModulo;
  if (divides && !b.Truth()) throw TemplateError("division by zero");
  if (!a.is_big_int() && !b.is_big_int()) {
    const int64_t left = a.AsInt();
    const int64_t right = b.AsInt();
    int64_t result = 0;
    if (op == BinaryOp::kAdd && !__builtin_add_overflow(left, right, &result)) {
      return Value::Int(result);
    }
    if (op == BinaryOp::kSubtract && !__builtin_sub_overflow(left, right, &result)) {
      return Value::Int(result);
    }
    if (op == BinaryOp::kMultiply && !__builtin_mul_overflow(left, right, &result)) {
      return Value::Int(result);
    }
  }
  switch (op) {
    case BinaryOp::kAdd: return Narrow(Wide(a) + Wide(b));
    case BinaryOp::kSubtract: return Narrow(Wide(a) - Wide(b));
    case BinaryOp::kMultiply: return Narrow(Wide(a) * Wide(b));
    case BinaryOp::kDivide: return TrueDivide(a, b);
    case BinaryOp::kFloorDivide: return Narrow(FloorDivide(Wide(a), Wide(b)).first);
    case BinaryOp::kModulo: return Narrow(FloorDivide(Wide(a), Wide(b)).second);
    case BinaryOp::kPower: return Power(a, b);
    case BinaryOp::kConcat: break;
  }
  return {};
}

int CompareIntegers(const Value& a, const Value& b) {
  if (!a.is_big_int() && !b.is_big_int()) {
    return a.AsInt() < b.AsInt() ? -1 : a.AsInt() > b.AsInt() ? 1 : 0;
  }
  return Wide(a).compare(Wide(b));
}

std::string IntegerText(const Value& integer, int base) {
  if (base == 10)
    return integer.is_big_int() ? Wide(integer).str() : std::to_string(integer.AsInt());
  const cpp_int number = Wide(integer);
  std::string digits;
  for (cpp_int rest = abs(number); rest != 0; rest /= base) {
    digits.push_back("0123456789abcdef"[static_cast<unsigned>(rest % base)]);
  }
  if (digits.empty()) digits = "0";
  if (number < 0) digits.push_back('-');
  return {digits.rbegin(), digits.rend()};
}

int CompareNumbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return CompareIntegers(a, b);
  if (b.is_big_int()) return -CompareNumbers(b, a);
  const double right = b.AsFloat();
  if (a.is_big_int() && std::isfinite(right)) return Wide(a).compare(cpp_int(std::trunc(right)));
  const double left = a.is_big_int() ? 0 : a.AsFloat();
  return left < right ? -1 : left > right ? 1 : 0;
}

double IntegerToDouble(const Value& integer) {
  const cpp_int number = Wide(integer);
  // The conversion may neither throw nor overflow.
  if (NumBits(number) > std::numeric_limits<double>::max_exponent) {
    throw TemplateError("int too large to convert to float");
  }
  const auto converted = static_cast<double>(number.convert_to<long double>());
  if (!std::isfinite(converted)) throw TemplateError("int too large to convert to float");
  return converted;
}

Value IntegerFromDouble(double number) { return Narrow(cpp_int(std::trunc(number))); }

std::optional<Value> ParseInteger(std::string_view text, int base) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const char letter = text.size() > 2 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
    base = prefix_base;
    text.remove_prefix(text[2] == '_' ? 3 : 2);
  } else if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos) {
      return std::nullopt;
    }
  }
  if (text.empty() || text.front() == '_' || text.back() == '_') return std::nullopt;
  if (text.find("__") != text.npos || text.size() > kMaxBits) return std::nullopt;
  cpp_int number;
  for (const char c : text) {
    if (c == '_') continue;
    const char lower = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9'           ? c - '0'
                      : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10
                                                     : base;
    if (digit >= base) return std::nullopt;
    number = number * base + digit;
  }
  return Narrow(negative ? cpp_int(-number) : number);
}

}  // namespace gale::jinja
