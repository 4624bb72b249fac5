#include "text/jinja/format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/integer.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxPrecision = 1000;

/// [[fill]align][sign][#][0][width][grouping][.precision][type], as the format spec has it.
struct Spec {
  std::string fill = " ";
  char align = '\0';  ///< '<', '>', '^', '=' (between sign and digits), or the type's own
  char sign = '-';
  bool alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

/// Reads the digits at `pos`; `absent` when there are none.
int64_t TakeNumber(std::string_view text, size_t* pos, int64_t limit, int64_t absent) {
  const size_t begin = *pos;
  int64_t number = 0;
  for (; *pos < text.size() && text[*pos] >= '0' && text[*pos] <= '9'; ++*pos) {
    number = std::min(number * 10 + (text[*pos] - '0'), limit + 1);
  }
  if (number > limit)
    throw TemplateError(fmt::format("format: a width or precision over {}", limit));
  return *pos == begin ? absent : number;
}

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

Spec ParseSpec(std::string_view text) {
  Spec spec;
  size_t pos = 0;
  const auto at = [&](size_t index) { return index < text.size() ? text[index] : '\0'; };
  const size_t fill_size = text.empty() ? 0 : text::Utf8Size(text[0]);
  if (fill_size > 0 && IsAlign(at(fill_size))) {
    spec.fill = std::string(text.substr(0, fill_size));
    spec.align = text[fill_size];
    pos = fill_size + 1;
  } else if (IsAlign(at(0))) {
    spec.align = text[pos++];
  }
  if (at(pos) == '+' || at(pos) == '-' || at(pos) == ' ') spec.sign = text[pos++];
  if (at(pos) == '#') {
    spec.alternate = true;
    ++pos;
  }
  if (at(pos) == '0' && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = TakeNumber(text, &pos, kMaxWidth, 0);
  if (at(pos) == ',' || at(pos) == '_') spec.grouping = text[pos++];
  if (at(pos) == '.') {
    ++pos;
    spec.precision = TakeNumber(text, &pos, kMaxPrecision, -1);
    if (spec.precision < 0) throw TemplateError("Format specifier missing precision");
  }
  if (pos < text.size()) spec.type = text[pos++];
  if (pos < text.size()) throw TemplateError("Invalid format specifier");
  return spec;
}

MarkedString Pad(MarkedString body, const Spec& spec, char default_align) {
  const auto size = static_cast<int64_t>(NumCharacters(body.bytes()));
  if (size >= spec.width) return body;
  const char align = spec.align == '\0' ? default_align : spec.align;
  const int64_t padding = spec.width - size;
  const int64_t left = align == '<' ? 0 : align == '^' ? padding / 2 : padding;
  MarkedString out;
  for (int64_t i = 0; i < left; ++i) out.Append(spec.fill);
  out.Append(body);
  for (int64_t i = left; i < padding; ++i) out.Append(spec.fill);
  return out;
}

/// A number's digits with sign and prefix, padded between these and the digits where asked.
MarkedString PadNumber(bool negative, std::string_view prefix, std::string digits,
                       const Spec& spec) {
  if (spec.grouping != '\0') {
    const int64_t group = prefix.empty() && spec.type != 'x' && spec.type != 'X' &&
                                  spec.type != 'o' && spec.type != 'b'
                              ? 3
                              : 4;
    const size_t whole =
        std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
    for (auto at = static_cast<int64_t>(whole) - group; at > 0; at -= group) {
      digits.insert(static_cast<size_t>(at), 1, spec.grouping);
    }
  }
  std::string front;
  if (negative) {
    front = "-";
  } else if (spec.sign != '-') {
    front = std::string(1, spec.sign);
  }
  front += prefix;
  if (spec.align != '=') return Pad(MarkedString(front + digits), spec, '>');
  Spec inner = spec;
  inner.align = '>';
  inner.width = std::max<int64_t>(spec.width - static_cast<int64_t>(front.size()), 0);
  MarkedString out(front);
  out.Append(Pad(MarkedString(std::move(digits)), inner, '>'));
  return out;
}

MarkedString FormatInteger(const Value& value, const Spec& spec) {
  const char type = spec.type == '\0' || spec.type == 'n' || spec.type == 'i' || spec.type == 'u'
                        ? 'd'
                        : spec.type;
  const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'd' ? 10 : 16;
  std::string digits = IntegerText(value, base);
  const bool negative = digits[0] == '-';
  if (negative) digits.erase(0, 1);
  if (type == 'X') {
    for (char& c : digits) c = c >= 'a' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  const std::string prefix = spec.alternate && base != 10 ? fmt::format("0{}", type) : "";
  return PadNumber(negative, prefix, std::move(digits), spec);
}

MarkedString FormatFloat(double number, const Spec& spec) {
  const bool negative = std::signbit(number) && !std::isnan(number);
  const double size = std::abs(number);
  const bool percent = spec.type == '%';
  std::string digits;
  if (spec.type == '\0' && spec.precision < 0) {
    digits = FloatRepr(size);
  } else {
    const char type = percent ? 'f' : spec.type == '\0' || spec.type == 'n' ? 'g' : spec.type;
    const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
    const std::string pattern = fmt::format("%{}.*{}", spec.alternate ? "#" : "", type);
    const double shown = percent ? size * 100 : size;
    std::vector<char> buffer(
        static_cast<size_t>(std::snprintf(nullptr, 0, pattern.c_str(), precision, shown)) + 1);
    std::snprintf(buffer.data(), buffer.size(), pattern.c_str(), precision, shown);
    digits = buffer.data();
    // Without a type, a float shows at least one digit behind the point.
    if (spec.type == '\0' && digits.find_first_not_of("0123456789") == digits.npos) digits += ".0";
    if (percent) digits += '%';
  }
  return PadNumber(negative, "", std::move(digits), spec);
}

MarkedString Truncated(const MarkedString& text, int64_t num_characters) {
  if (num_characters < 0) return text;
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  const size_t end = std::min(static_cast<size_t>(num_characters), offsets.size() - 1);
  return text.Slice(0, offsets[end]);
}

[[noreturn]] void FailType(char type, const Value& value) {
  throw TemplateError(
      fmt::format("Unknown format code '{}' for object of type '{}'", type, value.TypeName()));
}

/// format(value, spec).
MarkedString FormatValue(const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return ToText(value);
  const Spec spec = ParseSpec(spec_text);
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's') FailType(spec.type, value);
    if (spec.grouping != '\0') {
      throw TemplateError(fmt::format("Cannot specify '{}' with 's'.", spec.grouping));
    }
    if (spec.align == '=' && spec.fill != "0") {
      throw TemplateError("'=' alignment not allowed in string format specifier");
    }
    Spec text_spec = spec;
    if (spec.align == '=') text_spec.align = '<';
    return Pad(Truncated(value.AsString(), spec.precision), text_spec, '<');
  }
  if (!value.is_number()) {
    throw TemplateError(
        fmt::format("unsupported format string passed to {}.__format__", value.TypeName()));
  }
  if (value.is_integral() && std::string_view("bodxXn").find(spec.type) != std::string_view::npos) {
    if (spec.precision >= 0) {
      throw TemplateError("Precision not allowed in integer format specifier");
    }
    return FormatInteger(value, spec);
  }
  if (value.is_integral() && spec.type == '\0') {
    if (spec.precision >= 0) {
      throw TemplateError("Precision not allowed in integer format specifier");
    }
    return FormatInteger(value, spec);
  }
  if (value.is_integral() && spec.type == 'c') {
    std::string character;
    text::AppendUtf8(static_cast<char32_t>(std::clamp<int64_t>(value.AsInt(), 0, 0x10FFFF)),
                     &character);
    return Pad(MarkedString(std::move(character)), spec, '<');
  }
  if (std::string_view("eEfFgGn%\0", 9).find(spec.type) == std::string_view::npos) {
    FailType(spec.type, value);
  }
  return FormatFloat(value.AsFloat(), spec);
}

std::string AsciiRepr(const Value& value) {
  std::string out;
  const std::string bytes = Repr(value).bytes();
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    const auto c = static_cast<uint32_t>(text::CodePointAt(bytes, pos));
    if (c < 0x80) {
      out.push_back(static_cast<char>(c));
    } else {
      out += c < 0x100     ? fmt::format("\\x{:02x}", c)
             : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                           : fmt::format("\\U{:08x}", c);
    }
  }
  return out;
}

MarkedString Convert(const Value& value, char conversion) {
  switch (conversion) {
    case 's': return ToText(value);
    case 'r': return Repr(value);
    case 'a': return MarkedString(AsciiRepr(value));
    default: throw TemplateError("format(): expected !s, !r or !a for the conversion");
  }
}

/// One str.format call; fields inside of format specs share its count.
class BraceFormatter {
 public:
  BraceFormatter(Interpreter& interpreter, const CallArguments& arguments)
      : interpreter_(interpreter), arguments_(arguments) {}

  MarkedString Run(const MarkedString& text, int depth) {
    if (depth > 1) throw TemplateError("Max string recursion exceeded");
    const std::string& bytes = text.bytes();
    MarkedString out;
    for (size_t pos = 0; pos < bytes.size();) {
      const char c = bytes[pos];
      if (c != '{' && c != '}') {
        const size_t end = std::min(bytes.find_first_of("{}", pos), bytes.size());
        Put(text.Slice(pos, end), &out);
        pos = end;
      } else if (pos + 1 < bytes.size() && bytes[pos + 1] == c) {
        Put(text.Slice(pos, pos + 1), &out);
        pos += 2;
      } else if (c == '}') {
        throw TemplateError("Single '}' encountered in format string");
      } else {
        const size_t end = FieldEnd(bytes, pos + 1);
        Put(Field(std::string_view(bytes).substr(pos + 1, end - pos - 1), depth), &out);
        pos = end + 1;
      }
    }
    return out;
  }

 private:
  void Put(const MarkedString& part, MarkedString* out) {
    interpreter_.Charge(part.size());
    out->Append(part);
  }

  static size_t FieldEnd(const std::string& bytes, size_t pos) {
    int open = 1;
    for (; pos < bytes.size(); ++pos) {
      if (bytes[pos] == '[' && open == 1) {
        pos = std::min(bytes.find(']', pos), bytes.size());
      } else if (bytes[pos] == '{') {
        ++open;
      } else if (bytes[pos] == '}' && --open == 0) {
        return pos;
      }
    }
    throw TemplateError("expected '}' before end of string");
  }

  /// name[.attribute|[element]]*[!conversion][:spec]
  MarkedString Field(std::string_view field, int depth) {
    size_t name_end = 0;
    while (name_end < field.size() && field[name_end] != '!' && field[name_end] != ':') {
      if (field[name_end] == '[') name_end = std::min(field.find(']', name_end), field.size() - 1);
      ++name_end;
    }
    Value value = Lookup(field.substr(0, name_end));
    std::string_view rest = field.substr(name_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) {
        throw TemplateError("expected ':' after conversion specifier");
      }
      value = Value::String(Convert(value, rest[1]));
      rest.remove_prefix(2);
    }
    if (rest.empty()) return ToText(value);
    return FormatValue(value, Run(MarkedString(std::string(rest.substr(1))), depth + 1).bytes());
  }

  Value Lookup(std::string_view path) {
    size_t pos = std::min(path.find_first_of(".["), path.size());
    if (pos == 0 && !path.empty()) throw TemplateError("format(): no argument named ''");
    Value value = Argument(path.substr(0, pos));
    while (pos < path.size()) {
      const bool is_element = path[pos] == '[';
      const size_t begin = pos + 1;
      const size_t end = std::min(
          is_element ? path.find(']', begin) : path.find_first_of(".[", begin), path.size());
      const std::string name(path.substr(begin, end - begin));
      if (name.empty()) throw TemplateError("Empty attribute in format string");
      value =
          is_element ? interpreter_.Item(value, Index(name)) : interpreter_.Attribute(value, name);
      pos = end + (is_element ? 1 : 0);
    }
    return value;
  }

  static Value Index(const std::string& name) {
    int64_t index = 0;
    const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool is_index =
        error == std::errc() && rest == name.data() + name.size() && name[0] != '-';
    return is_index ? Value::Int(index) : Value::String(name);
  }

  Value Argument(std::string_view name) {
    const Value key = name.empty() ? Value::Int(next_++) : Index(std::string(name));
    if (key.is_int()) {
      is_manual_ = is_manual_ || !name.empty();
      if (is_manual_ && next_ > 0) {
        throw TemplateError("format(): fields are either all numbered or none is");
      }
      const auto index = static_cast<size_t>(key.AsInt());
      if (index >= arguments_.positional.size()) {
        throw TemplateError(
            fmt::format("Replacement index {} out of range for positional args tuple", index));
      }
      return arguments_.positional[index];
    }
    if (!arguments_.Has(SIZE_MAX, name)) {
      throw TemplateError(fmt::format("format(): no argument named '{}'", name));
    }
    return arguments_.Get(SIZE_MAX, name);
  }

  Interpreter& interpreter_;
  const CallArguments& arguments_;
  int64_t next_ = 0;        ///< the argument of the next field without a number
  bool is_manual_ = false;  ///< a field had a number
};

/// The values of one "%": in turn from a tuple, or by name from a dict.
class PercentArguments {
 public:
  explicit PercentArguments(const Value& argument) : argument_(argument) {
    is_tuple_ = argument.is_list() && argument.AsList().is_tuple();
  }
  const Value& Next() {
    const size_t size = is_tuple_ ? argument_.AsList().items.size() : 1;
    if (next_ >= size) throw TemplateError("not enough arguments for format string");
    const size_t now = next_++;
    return is_tuple_ ? argument_.AsList().items[now] : argument_;
  }
  Value Named(std::string_view name) const {
    if (!argument_.is_dict()) throw TemplateError("format requires a mapping");
    const Value* value = argument_.AsDict().Find(name);
    if (value == nullptr) throw TemplateError(fmt::format("format: no key '{}'", name));
    return *value;
  }
  void CheckAllUsed() const {
    // Whatever takes [...] may hold more than is asked for.
    const bool may_be_left =
        !is_tuple_ && (argument_.is_dict() || argument_.is_list() || argument_.is_undefined());
    const size_t size = is_tuple_ ? argument_.AsList().items.size() : 1;
    if (!may_be_left && next_ < size) {
      throw TemplateError("not all arguments converted during string formatting");
    }
  }

 private:
  const Value& argument_;
  bool is_tuple_;
  size_t next_ = 0;
};

MarkedString FormatConversion(char conversion, const Value& value, Spec spec) {
  const auto number = [&]() -> const Value& {
    if (!value.is_number()) {
      throw TemplateError(fmt::format("%{} format: a real number is required, not {}", conversion,
                                      value.TypeName()));
    }
    return value;
  };
  spec.type = conversion;
  switch (conversion) {
    case 's':
    case 'r':
    case 'a':
      if (spec.align == '=') spec.align = '>';
      spec.fill = " ";
      return Pad(Truncated(Convert(value, conversion), spec.precision), spec, '>');
    case 'c': {
      std::string character;
      if (value.is_string() && NumCharacters(value.bytes()) == 1) {
        character = value.bytes();
      } else if (value.is_integral() && value.AsInt() >= 0 && value.AsInt() <= 0x10FFFF) {
        text::AppendUtf8(static_cast<char32_t>(value.AsInt()), &character);
      } else {
        throw TemplateError("%c requires int or char");
      }
      return Pad(MarkedString(std::move(character)), spec, '>');
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const bool decimal = conversion == 'd' || conversion == 'i' || conversion == 'u';
      if (!decimal && !value.is_integral()) {
        throw TemplateError(fmt::format("%{} format: an integer is required, not {}", conversion,
                                        value.TypeName()));
      }
      const Value integer = number().is_float() ? IntegerFromDouble(value.AsFloat()) : value;
      const auto num_digits = static_cast<int64_t>(IntegerText(integer).size());
      if (spec.precision > num_digits) {
        Spec digits = spec;
        digits.fill = "0";
        digits.align = '=';
        digits.width =
            spec.precision + (integer.is_int() && CompareIntegers(integer, Value::Int(0)) < 0);
        return Pad(FormatInteger(integer, digits), spec, '>');
      }
      return FormatInteger(integer, spec);
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': return FormatFloat(number().AsFloat(), spec);
    default: break;
  }
  throw TemplateError(fmt::format("unsupported format character '{}'", conversion));
}

}  // namespace

MarkedString FormatPercent(Interpreter& interpreter, const MarkedString& format,
                           const Value& argument) {
  const std::string& bytes = format.bytes();
  PercentArguments arguments(argument);
  MarkedString out;
  for (size_t pos = 0; pos < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', pos), bytes.size());
    out.Append(format.Slice(pos, percent));
    if (percent == bytes.size()) break;
    pos = percent + 1;
    std::optional<Value> named;
    if (pos < bytes.size() && bytes[pos] == '(') {
      const size_t close = bytes.find(')', pos);
      if (close == std::string::npos) throw TemplateError("incomplete format key");
      named = arguments.Named(std::string_view(bytes).substr(pos + 1, close - pos - 1));
      pos = close + 1;
    }
    Spec spec;
    for (;
         pos < bytes.size() && std::string_view("#0- +").find(bytes[pos]) != std::string_view::npos;
         ++pos) {
      const char flag = bytes[pos];
      if (flag == '#') spec.alternate = true;
      if (flag == '-') spec.align = '<';
      if (flag == '0' && spec.align == '\0') {
        spec.fill = "0";
        spec.align = '=';
      }
      if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
    }
    if (spec.align == '<') spec.fill = " ";
    if (pos < bytes.size() && bytes[pos] == '*') {
      const Value& width = arguments.Next();
      if (!width.is_integral()) throw TemplateError("* wants int");
      if (width.AsInt() < 0) spec.align = '<';
      spec.width = std::min(std::abs(width.AsInt()), kMaxWidth);
      ++pos;
    } else {
      spec.width = TakeNumber(bytes, &pos, kMaxWidth, 0);
    }
    if (pos < bytes.size() && bytes[pos] == '.') {
      ++pos;
      spec.precision = TakeNumber(bytes, &pos, kMaxPrecision, 0);
    }
    if (pos == bytes.size()) throw TemplateError("incomplete format");
    const char conversion = bytes[pos++];
    if (conversion == '%') {
      out.Append("%");
      continue;
    }
    const Value value = named ? *named : arguments.Next();
    const MarkedString part = FormatConversion(conversion, value, spec);
    interpreter.Charge(part.size() + 64);
    out.Append(part);
  }
  arguments.CheckAllUsed();
  return out;
}

MarkedString FormatBraces(Interpreter& interpreter, const MarkedString& format,
                          const CallArguments& arguments) {
  return BraceFormatter(interpreter, arguments).Run(format, 0);
}

}  // namespace gale::jinja
