#include "text/jinja/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/integer.h"
#include "text/jinja/template_error.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

// Values nested deeper than this are taken to contain themselves.
constexpr int kMaxValueDepth = 200;

void CheckDepth(int depth) {
  if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply, or in itself");
}

std::string StringKey(std::string_view key) {
  std::string text(1, 's');
  text += key;
  return text;
}

/// A string that is the same for equal keys and no others.
std::string HashKey(const Value& key, int depth = 0) {
  CheckDepth(depth);
  switch (key.kind()) {
    case Value::Kind::kString: return StringKey(key.bytes());
    case Value::Kind::kUndefined: return "u";
    case Value::Kind::kNone: return "n";
    case Value::Kind::kBool:
    case Value::Kind::kInt: return fmt::format("i{}", key.AsInt());
    case Value::Kind::kBigInt: return fmt::format("i{}", IntegerText(key));
    case Value::Kind::kFloat: {
      const double number = key.AsFloat();
      const bool is_integer = std::abs(number) < 0x1p62 && number == std::floor(number);
      return is_integer ? fmt::format("i{}", static_cast<int64_t>(number))
                        : fmt::format("f{}", FloatRepr(number));
    }
    case Value::Kind::kList:
      if (key.AsList().is_tuple()) {
        std::string text = "t";
        for (const Value& item : key.AsList().items) {
          const std::string part = HashKey(item, depth + 1);
          text += fmt::format("{}:{}", part.size(), part);
        }
        return text;
      }
      break;
    default: break;
  }
  throw TemplateError(fmt::format("unhashable type: '{}'", key.TypeName()));
}

bool EqualAt(const Value& a, const Value& b, int depth) {
  CheckDepth(depth);
  if (a.is_number() && b.is_number()) {
    const bool is_nan =
        (a.is_float() && std::isnan(a.AsFloat())) || (b.is_float() && std::isnan(b.AsFloat()));
    return !is_nan && CompareNumbers(a, b) == 0;
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone: return true;
    case Value::Kind::kString: return a.bytes() == b.bytes();
    case Value::Kind::kList: {
      const List& left = a.AsList();
      const List& right = b.AsList();
      if (left.is_generator() || right.is_generator()) return &left == &right;
      return left.is_tuple() == right.is_tuple() &&
             (left.is_tuple() || left.shape == right.shape) &&
             std::equal(left.items.begin(), left.items.end(), right.items.begin(),
                        right.items.end(),
                        [&](const Value& x, const Value& y) { return EqualAt(x, y, depth + 1); });
    }
    case Value::Kind::kDict: {
      const Dict& left = a.AsDict();
      const Dict& right = b.AsDict();
      return left.size() == right.size() &&
             std::all_of(left.entries().begin(), left.entries().end(), [&](const auto& entry) {
               const Value* other = right.Find(entry.first);
               return other != nullptr && EqualAt(entry.second, *other, depth + 1);
             });
    }
    default: return &a.AsObject() == &b.AsObject();
  }
}

std::string_view ListTypeName(List::Shape shape) {
  switch (shape) {
    case List::Shape::kList: return "list";
    case List::Shape::kTuple:
    case List::Shape::kGroup: return "tuple";
    case List::Shape::kRange: return "range";
    case List::Shape::kKeys: return "dict_keys";
    case List::Shape::kValues: return "dict_values";
    case List::Shape::kItems: return "dict_items";
    case List::Shape::kGenerator: return "generator";
  }
  return "list";
}

template <class T>
int Order(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int CompareAt(const Value& a, const Value& b, int depth) {
  CheckDepth(depth);
  if (a.is_number() && b.is_number()) return CompareNumbers(a, b);
  if (a.is_string() && b.is_string()) return Order(a.bytes(), b.bytes());
  const auto has_order = [](const Value& value) {
    return value.is_list() &&
           (value.AsList().is_tuple() || value.AsList().shape == List::Shape::kList);
  };
  if (has_order(a) && has_order(b) && a.AsList().is_tuple() == b.AsList().is_tuple()) {
    const auto& left = a.AsList().items;
    const auto& right = b.AsList().items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!EqualAt(left[i], right[i], depth + 1)) return CompareAt(left[i], right[i], depth + 1);
    }
    return Order(left.size(), right.size());
  }
  if (a.is_undefined()) throw TemplateError(a.UndefinedWhat());
  if (b.is_undefined()) throw TemplateError(b.UndefinedWhat());
  throw TemplateError(
      fmt::format("'{}' and '{}' have no order to compare by", a.TypeName(), b.TypeName()));
}

MarkedString QuotedRepr(const MarkedString& value) {
  const std::string& bytes = value.bytes();
  const bool has_single = bytes.find('\'') != std::string::npos;
  const char quote = has_single && bytes.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t pos = 0; pos < bytes.size();) {
    const text::Utf8Char c = text::DecodeUtf8(std::string_view(bytes).substr(pos));
    const char32_t code = c.code_point;
    if (code == static_cast<char32_t>(quote) || code == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(code));
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (IsPrintable(code)) {
      out.append(bytes, pos, c.size);
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(code));
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(code));
    }
    pos += c.size;
  }
  out.push_back(quote);
  return value.is_marked() ? MarkedString::User(std::move(out)) : MarkedString(std::move(out));
}

void AppendRepr(const Value& value, int depth, MarkedString* out);

void AppendListRepr(const List& list, int depth, MarkedString* out) {
  using Shape = List::Shape;
  if (list.shape == Shape::kGenerator) return out->Append("<generator object>");
  if (list.shape == Shape::kRange) {
    out->Append(fmt::format("range({}, {}", list.range_start, list.range_stop));
    return out->Append(list.range_step == 1 ? ")" : fmt::format(", {})", list.range_step));
  }
  const bool is_view = !list.is_indexed();
  if (is_view) out->Append(fmt::format("{}(", Value::Of(const_cast<List*>(&list)).TypeName()));
  out->Append(list.is_tuple() ? "(" : "[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out->Append(", ");
    AppendRepr(list.items[i], depth + 1, out);
  }
  if (list.is_tuple() && list.items.size() == 1) out->Append(",");
  out->Append(list.is_tuple() ? ")" : "]");
  if (is_view) out->Append(")");
}

void AppendRepr(const Value& value, int depth, MarkedString* out) {
  CheckDepth(depth);
  switch (value.kind()) {
    case Value::Kind::kUndefined: out->Append("Undefined"); return;
    case Value::Kind::kNone: out->Append("None"); return;
    case Value::Kind::kBool: out->Append(value.AsBool() ? "True" : "False"); return;
    case Value::Kind::kInt:
    case Value::Kind::kBigInt: out->Append(IntegerText(value)); return;
    case Value::Kind::kFloat: out->Append(FloatRepr(value.AsFloat())); return;
    case Value::Kind::kString: out->Append(QuotedRepr(value.AsString())); return;
    case Value::Kind::kList: AppendListRepr(value.AsList(), depth, out); return;
    case Value::Kind::kDict: {
      out->Append("{");
      bool first = true;
      for (const auto& [key, item] : value.AsDict().entries()) {
        if (!first) out->Append(", ");
        first = false;
        AppendRepr(key, depth + 1, out);
        out->Append(": ");
        AppendRepr(item, depth + 1, out);
      }
      out->Append("}");
      return;
    }
    case Value::Kind::kObject: out->Append(value.AsObject().Text()); return;
  }
}

}  // namespace

std::optional<Value> Object::Attribute(Interpreter& /*interpreter*/, std::string_view /*name*/) {
  return std::nullopt;
}

MarkedString Object::Text() const { return MarkedString(fmt::format("<{}>", type_name())); }

Value Object::Call(Interpreter& /*interpreter*/, const CallArguments& /*arguments*/) {
  throw TemplateError(fmt::format("'{}' object is not callable", type_name()));
}

const std::string& Value::UndefinedWhat() const {
  static const std::string nothing = "a value is undefined";
  const auto& what = std::get<UndefinedRep>(rep_).what;
  return what == nullptr ? nothing : *what;
}

int64_t Value::AsInt() const {
  if (is_bool()) return int64_t{AsBool()};
  if (is_big_int()) throw TemplateError("the integer is too large here: it leaves 64 bits");
  return std::get<int64_t>(rep_);
}

double Value::AsFloat() const {
  if (is_float()) return std::get<double>(rep_);
  return is_big_int() ? IntegerToDouble(*this) : static_cast<double>(AsInt());
}

bool Value::Truth() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool: return AsBool();
    case Kind::kInt: return AsInt() != 0;
    case Kind::kFloat: return AsFloat() != 0;
    case Kind::kString: return !bytes().empty();
    case Kind::kList: return AsList().is_generator() || !AsList().items.empty();
    case Kind::kDict: return AsDict().size() > 0;
    case Kind::kObject:
    case Kind::kBigInt: return true;
  }
  return true;
}

std::string_view Value::TypeName() const {
  switch (kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt:
    case Kind::kBigInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kList: return ListTypeName(AsList().shape);
    case Kind::kDict: return "dict";
    case Kind::kObject: return AsObject().type_name();
  }
  return "object";
}

const Value* Dict::Find(const Value& key) const {
  const auto it = index_.find(HashKey(key));
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

const Value* Dict::Find(std::string_view key) const {
  const auto it = index_.find(StringKey(key));
  return it == index_.end() ? nullptr : &entries_[it->second].second;
}

void Dict::Set(const Value& key, Value value) {
  const auto [it, is_new] = index_.try_emplace(HashKey(key), entries_.size());
  if (is_new) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[it->second].second = std::move(value);
  }
}

Value CallArguments::Get(size_t index, std::string_view name) const {
  if (index < positional.size()) return positional[index];
  for (const auto& [given, value] : named) {
    if (given == name) return value;
  }
  return {};
}

bool CallArguments::Has(size_t index, std::string_view name) const {
  return index < positional.size() ||
         std::any_of(named.begin(), named.end(), [&](const auto& n) { return n.first == name; });
}

int64_t CallArguments::Int(size_t index, std::string_view name, int64_t fallback) const {
  if (!Has(index, name)) return fallback;
  const Value value = Get(index, name);
  if (!value.is_integral()) {
    throw TemplateError(fmt::format("{}: expected an integer, got '{}'", name, value.TypeName()));
  }
  return value.AsInt();
}

bool CallArguments::Bool(size_t index, std::string_view name, bool fallback) const {
  return Has(index, name) ? Get(index, name).Truth() : fallback;
}

void CallArguments::Check(std::string_view function, std::initializer_list<std::string_view> names,
                          size_t num_required) const {
  if (positional.size() > names.size()) {
    throw TemplateError(fmt::format("{}() takes at most {} arguments, got {}", function,
                                    names.size(), positional.size()));
  }
  for (const auto& [given, value] : named) {
    const auto it = std::find(names.begin(), names.end(), given);
    if (it == names.end()) {
      throw TemplateError(fmt::format("{}() has no argument '{}'", function, given));
    }
    if (static_cast<size_t>(it - names.begin()) < positional.size()) {
      throw TemplateError(fmt::format("{}() got argument '{}' twice", function, given));
    }
  }
  for (size_t i = positional.size(); i < num_required; ++i) {
    const std::string_view name = names.begin()[i];
    if (!Has(SIZE_MAX, name)) {
      throw TemplateError(fmt::format("{}() needs an argument '{}'", function, name));
    }
  }
}

void CallArguments::CheckPositional(std::string_view function, size_t least, size_t most,
                                    bool any_named) const {
  if (positional.size() < least || positional.size() > most) {
    throw TemplateError(fmt::format("{}() takes {} arguments, got {}", function,
                                    least == most               ? fmt::format("{}", least)
                                    : positional.size() < least ? fmt::format("at least {}", least)
                                                                : fmt::format("at most {}", most),
                                    positional.size()));
  }
  if (!any_named && !named.empty()) {
    throw TemplateError(fmt::format("{}() has no argument '{}'", function, named[0].first));
  }
}

bool Equal(const Value& a, const Value& b) { return EqualAt(a, b, 0); }

int Compare(const Value& a, const Value& b) { return CompareAt(a, b, 0); }

bool Contains(const Value& haystack, const Value& needle) {
  if (haystack.is_undefined()) return false;
  if (haystack.is_dict()) return haystack.AsDict().Find(needle) != nullptr;
  if (haystack.is_list()) {
    const auto& items = haystack.AsList().items;
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& v) { return Equal(v, needle); });
  }
  if (haystack.is_string()) {
    if (!needle.is_string()) {
      throw TemplateError(
          fmt::format("'in <string>' requires string as left operand, not {}", needle.TypeName()));
    }
    return haystack.bytes().find(needle.bytes()) != std::string::npos;
  }
  throw TemplateError(fmt::format("argument of type '{}' is not iterable", haystack.TypeName()));
}

// Not a control, format, surrogate, private, unassigned
/// character or separator other than the space.
bool IsPrintable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

MarkedString Repr(const Value& value) {
  MarkedString out;
  AppendRepr(value, 0, &out);
  return out;
}

MarkedString ToText(const Value& value) {
  if (value.is_string()) return value.AsString();
  if (value.is_undefined()) return {};
  return Repr(value);
}

std::string FloatRepr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  // "d.ddde+XX": the shortest digits, laid out again by Python's rule.
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number,
                                 std::chars_format::scientific);
  const std::string_view shortest(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  const size_t e = shortest.find('e');
  const int exponent = std::stoi(std::string(shortest.substr(e + 1)));
  const bool negative = shortest[0] == '-';
  std::string digits(shortest.substr(negative ? 1 : 0, e - (negative ? 1 : 0)));
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  std::string text = negative ? "-" : "";
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    text += digits[0];
    if (num_digits > 1) text.append(1, '.').append(digits, 1);
    return text + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return text + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (num_digits <= exponent + 1)
    return text + digits + std::string(whole - digits.size(), '0') + ".0";
  return text + digits.substr(0, whole) + "." + digits.substr(whole);
}

size_t NumCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

}  // namespace gale::jinja
