// The filters of `x | ...`, after Jinja's own (jinja.palletsprojects.com/templates) and the tojson
// of transformers.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Args = const CallArguments&;

/// "a.b.0": attributes and indices, one after the other; `fallback` for each that is undefined.
Value Path(In in, Value value, const Value& path, const Value& fallback = {}) {
  if (!path.is_string()) return in.Item(value, path);
  const std::string& text = path.bytes();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    int64_t index = 0;
    const auto [rest, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = error == std::errc() && rest == part.data() + part.size();
    value = in.Item(value, is_index ? Value::Int(index) : Value::String(part));
    if (value.is_undefined() && !fallback.is_undefined()) value = fallback;
    begin = end + 1;
  }
  return value;
}

CallArguments Rest(Args args, size_t first) {
  CallArguments rest;
  if (args.positional.size() > first) {
    rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(first),
                           args.positional.end());
  }
  rest.named = args.named;
  return rest;
}

/// What sort, unique, min, max and groupby compare: an attribute or the item, strings in lower case
/// unless they are case-sensitive.
Value SortKey(In in, const Value& item, const Value& attribute, bool case_sensitive) {
  Value key = attribute.is_undefined() || attribute.is_none() ? item : Path(in, item, attribute);
  return key.is_string() && !case_sensitive ? ChangeCase(in, key, LetterCase::kLower) : key;
}

using Keyed = std::pair<Value, Value>;  ///< sort key, item

std::vector<Keyed> WithKeys(In in, Self self, const Value& attribute, bool case_sensitive) {
  std::vector<Keyed> keyed;
  for (const Value& item : in.Iterate(self)) {
    keyed.emplace_back(SortKey(in, item, attribute, case_sensitive), item);
  }
  return keyed;
}

void SortByKey(In in, std::vector<Keyed>* keyed, bool reverse) {
  in.Charge(keyed->size() * sizeof(Keyed));
  std::stable_sort(keyed->begin(), keyed->end(), [&](const Keyed& a, const Keyed& b) {
    in.Charge(0);
    return reverse ? Compare(b.first, a.first) < 0 : Compare(a.first, b.first) < 0;
  });
}

// ---- strings ----

Value Trim(In in, Self self, Args args) {
  args.Check("trim", {"chars"});
  return StripText(in, self, args.Get(0, "chars"), true, true);
}

template <LetterCase kCase>
Value Case(In in, Self self, Args /*args*/) {
  return ChangeCase(in, self, kCase);
}

Value Replace(In in, Self self, Args args) {
  args.Check("replace", {"old", "new", "count"});
  const Value count = args.Get(2, "count");
  return ReplaceText(in, self, args.Get(0, "old"), args.Get(1, "new"),
                     count.is_integral() ? count.AsInt() : -1);
}

Value Indent(In in, Self self, Args args) {
  args.Check("indent", {"width", "first", "blank"});
  constexpr int64_t kMaxWidth = 1024;
  const Value width = args.Get(0, "width");
  const int64_t spaces = width.is_string() ? 0 : args.Int(0, "width", 4);
  if (spaces > kMaxWidth) throw TemplateError("indent: the width is too large");
  const MarkedString indention =
      width.is_string()
          ? width.AsString()
          : MarkedString(std::string(static_cast<size_t>(std::max<int64_t>(spaces, 0)), ' '));
  const bool first = args.Bool(1, "first", false);
  const bool blank = args.Bool(2, "blank", false);
  const MarkedString text = ToText(self);
  const std::string& bytes = text.bytes();
  MarkedString out;
  for (size_t begin = 0; begin <= bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    const bool indents = begin == 0 ? first : blank || end > begin;
    in.Charge(indention.size() + 16 * text.marks().size());
    if (begin > 0) out.Append(text.Slice(begin - 1, begin));
    if (indents) out.Append(indention);
    out.Append(text.Slice(begin, end));
    begin = end + 1;
  }
  return in.NewString(std::move(out));
}

Value Escape(In in, Self self, Args /*args*/) {
  Value text = Value::String(ToText(self));
  static constexpr std::array<std::pair<const char*, const char*>, 5> kEntities = {
      {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}}};
  for (const auto& [from, to] : kEntities) {
    text = ReplaceText(in, text, Value::String(from), Value::String(to), -1);
  }
  return text;
}

/// %-formatting with s, r, d, i, f, e, g, x and a precision.
Value Format(In in, Self self, Args args) {
  const MarkedString text = ToText(self);
  const std::string& bytes = text.bytes();
  MarkedString out;
  size_t next = 0;
  for (size_t pos = 0; pos < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', pos), bytes.size());
    out.Append(text.Slice(pos, percent));
    if (percent == bytes.size()) break;
    const size_t end = bytes.find_first_of("srdifegx%", percent + 1);
    if (end == std::string::npos) throw TemplateError("format: a \"%\" without a conversion");
    const std::string flags = bytes.substr(percent + 1, end - percent - 1);
    pos = end + 1;
    if (bytes[end] == '%') {
      out.Append("%");
      continue;
    }
    if (flags.size() > 4 || flags.find_first_not_of("0123456789.") != std::string::npos) {
      throw TemplateError(fmt::format("format: \"%{}\" is not supported", flags));
    }
    if (next == args.positional.size())
      throw TemplateError("not enough arguments for format string");
    const Value& value = args.positional[next++];
    in.Charge(64);
    const std::string spec = fmt::format("{{:{}{}}}", flags, bytes[end] == 'i' ? 'd' : bytes[end]);
    switch (bytes[end]) {
      case 's': out.Append(ToText(value)); break;
      case 'r': out.Append(Repr(value)); break;
      case 'd':
      case 'i':
      case 'x':
        if (!value.is_number()) throw TemplateError("format: a number is required");
        if (flags.find('.') != std::string::npos) throw TemplateError("format: no precision here");
        out.Append(fmt::format(fmt::runtime(spec),
                               value.is_float()
                                   ? static_cast<int64_t>(std::clamp(value.AsFloat(), -9e18, 9e18))
                                   : value.AsInt()));
        break;
      default:
        if (!value.is_number()) throw TemplateError("format: a number is required");
        if (bytes[end] == 'f' && flags.find('.') == std::string::npos && flags.empty()) {
          out.Append(fmt::format("{:.6f}", value.AsFloat()));
        } else if (flags.ends_with('.')) {
          throw TemplateError("format: a precision is missing");
        } else {
          out.Append(fmt::format(fmt::runtime(spec), value.AsFloat()));
        }
    }
  }
  if (next < args.positional.size()) {
    throw TemplateError("not all arguments converted during string formatting");
  }
  return in.NewString(std::move(out));
}

Value WordCount(In in, Self self, Args /*args*/) {
  const Value words = FindMethod(Value::String(""), "split")(in, Value::String(ToText(self)), {});
  return Value::Int(static_cast<int64_t>(words.AsList().items.size()));
}

Value Center(In in, Self self, Args args) {
  const MarkedString text = ToText(self);
  const auto size = static_cast<int64_t>(NumCharacters(text.bytes()));
  const int64_t width = args.Int(0, "width", 80);
  if (width <= size) return in.NewString(text);
  in.Charge(static_cast<size_t>(width));
  // Python puts the odd space to the left when the width is odd.
  const int64_t padding = width - size;
  const int64_t left = padding / 2 + (padding & width & 1);
  MarkedString out(std::string(static_cast<size_t>(left), ' '));
  out.Append(text);
  out.Append(std::string(static_cast<size_t>(padding - left), ' '));
  return in.NewString(std::move(out));
}

// ---- sequences ----

Value Length(In in, Self self, Args /*args*/) {
  if (self.is_string()) {
    in.Charge(self.bytes().size());
    return Value::Int(static_cast<int64_t>(NumCharacters(self.bytes())));
  }
  if (self.is_list()) return Value::Int(static_cast<int64_t>(self.AsList().items.size()));
  if (self.is_dict()) return Value::Int(static_cast<int64_t>(self.AsDict().size()));
  if (self.is_undefined()) return Value::Int(0);
  throw TemplateError(fmt::format("object of type '{}' has no len()", self.TypeName()));
}

Value First(In in, Self self, Args /*args*/) {
  const std::vector<Value> items = in.Iterate(self);
  return items.empty() ? Value::Undefined("No first item, sequence was empty.") : items.front();
}

Value Last(In in, Self self, Args /*args*/) {
  const std::vector<Value> items = in.Iterate(self);
  return items.empty() ? Value::Undefined("No last item, sequence was empty.") : items.back();
}

Value ToList(In in, Self self, Args /*args*/) { return in.NewList(in.Iterate(self)); }

Value Join(In in, Self self, Args args) {
  args.Check("join", {"d", "attribute"});
  std::vector<Value> items = in.Iterate(self);
  if (args.Has(1, "attribute")) {
    for (Value& item : items) item = Path(in, item, args.Get(1, "attribute"));
  }
  return JoinText(in, items, ToText(args.Get(0, "d")));
}

Value Reverse(In in, Self self, Args /*args*/) {
  std::vector<Value> items = in.Iterate(self);
  std::reverse(items.begin(), items.end());
  return self.is_string() ? JoinText(in, items, MarkedString()) : in.NewList(std::move(items));
}

Value Items(In in, Self self, Args /*args*/) {
  std::vector<Value> pairs;
  if (self.is_undefined()) return in.NewList({});
  if (!self.is_dict()) throw TemplateError("Can only get item pairs from a mapping.");
  for (const auto& [key, value] : self.AsDict().entries()) {
    pairs.push_back(in.NewList({key, value}, /*is_tuple=*/true));
  }
  return in.NewList(std::move(pairs));
}

Value DictSort(In in, Self self, Args args) {
  args.Check("dictsort", {"case_sensitive", "by", "reverse"});
  const bool by_value =
      args.Has(1, "by") && ExpectString(args.Get(1, "by"), "by").bytes() == "value";
  std::vector<Keyed> keyed;
  for (const Value& pair : Items(in, self, {}).AsList().items) {
    keyed.emplace_back(SortKey(in, pair.AsList().items[by_value ? 1 : 0], Value(),
                               args.Bool(0, "case_sensitive", false)),
                       pair);
  }
  SortByKey(in, &keyed, args.Bool(2, "reverse", false));
  std::vector<Value> sorted;
  for (Keyed& entry : keyed) sorted.push_back(std::move(entry.second));
  return in.NewList(std::move(sorted));
}

Value Sort(In in, Self self, Args args) {
  args.Check("sort", {"reverse", "case_sensitive", "attribute"});
  std::vector<Keyed> keyed =
      WithKeys(in, self, args.Get(2, "attribute"), args.Bool(1, "case_sensitive", false));
  SortByKey(in, &keyed, args.Bool(0, "reverse", false));
  std::vector<Value> sorted;
  for (Keyed& entry : keyed) sorted.push_back(std::move(entry.second));
  return in.NewList(std::move(sorted));
}

Value Unique(In in, Self self, Args args) {
  args.Check("unique", {"case_sensitive", "attribute"});
  Dict seen;
  std::vector<Value> items;
  for (Keyed& entry :
       WithKeys(in, self, args.Get(1, "attribute"), args.Bool(0, "case_sensitive", false))) {
    if (seen.Find(entry.first) != nullptr) continue;
    seen.Set(entry.first, Value::None());
    items.push_back(std::move(entry.second));
  }
  return in.NewList(std::move(items));
}

template <int kSign>
Value Extreme(In in, Self self, Args args) {
  args.Check("min/max", {"case_sensitive", "attribute"});
  const std::vector<Keyed> keyed =
      WithKeys(in, self, args.Get(1, "attribute"), args.Bool(0, "case_sensitive", false));
  if (keyed.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  const Keyed* best = &keyed[0];
  for (const Keyed& entry : keyed) {
    if (Compare(entry.first, best->first) * kSign > 0) best = &entry;
  }
  return best->second;
}

Value GroupBy(In in, Self self, Args args) {
  args.Check("groupby", {"attribute", "default", "case_sensitive"});
  std::vector<Keyed> keyed =
      WithKeys(in, self, args.Get(0, "attribute"), args.Bool(2, "case_sensitive", false));
  SortByKey(in, &keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin;
    std::vector<Value> members;
    while (end < keyed.size() && Equal(keyed[end].first, keyed[begin].first)) {
      members.push_back(keyed[end++].second);
    }
    const Value key = Path(in, keyed[begin].second, args.Get(0, "attribute"));
    groups.push_back(in.NewList({key, in.NewList(std::move(members))}, /*is_tuple=*/true));
    begin = end;
  }
  return in.NewList(std::move(groups));
}

Value Sum(In in, Self self, Args args) {
  args.Check("sum", {"attribute", "start"});
  const Value attribute = args.Get(0, "attribute");
  Value total = args.Has(1, "start") ? args.Get(1, "start") : Value::Int(0);
  for (const Value& item : in.Iterate(self)) {
    const bool plain = attribute.is_undefined() || attribute.is_none();
    total = Arithmetic(in, BinaryOp::kAdd, total, plain ? item : Path(in, item, attribute));
  }
  return total;
}

Value Map(In in, Self self, Args args) {
  std::vector<Value> results;
  if (args.positional.empty()) {
    for (const Value& item : in.Iterate(self)) {
      results.push_back(Path(in, item, args.Get(0, "attribute"), args.Get(1, "default")));
    }
    return in.NewList(std::move(results));
  }
  const std::string& name = ExpectString(args.positional[0], "map").bytes();
  const CallArguments rest = Rest(args, 1);
  for (const Value& item : in.Iterate(self)) results.push_back(in.Filter(name, item, rest));
  return in.NewList(std::move(results));
}

/// select, reject (first = 0: the test's name) and selectattr, rejectattr (first = 1, behind the
/// attribute).
template <size_t kFirst, bool kKeeps>
Value Select(In in, Self self, Args args) {
  if (args.positional.size() < kFirst)
    throw TemplateError("selectattr/rejectattr: name an attribute");
  const bool has_test = args.positional.size() > kFirst;
  const std::string test = has_test ? ExpectString(args.positional[kFirst], "select").bytes() : "";
  const CallArguments rest = Rest(args, kFirst + 1);
  std::vector<Value> kept;
  for (const Value& item : in.Iterate(self)) {
    const Value value = kFirst == 0 ? item : Path(in, item, args.positional[0]);
    const bool passes = has_test ? in.Test(test, value, rest) : value.Truth();
    if (passes == kKeeps) kept.push_back(item);
  }
  return in.NewList(std::move(kept));
}

Value Batch(In in, Self self, Args args) {
  args.Check("batch", {"linecount", "fill_with"});
  const int64_t size = args.Int(0, "linecount", 0);
  if (size < 1) throw TemplateError("batch: the count must be at least 1");
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : in.Iterate(self)) {
    if (static_cast<int64_t>(row.size()) == size)
      rows.push_back(in.NewList(std::exchange(row, {})));
    row.push_back(item);
  }
  if (row.empty()) return in.NewList(std::move(rows));
  if (args.Has(1, "fill_with") && !args.Get(1, "fill_with").is_none()) {
    in.Charge(static_cast<size_t>(size) * sizeof(Value));
    row.resize(static_cast<size_t>(size), args.Get(1, "fill_with"));
  }
  rows.push_back(in.NewList(std::move(row)));
  return in.NewList(std::move(rows));
}

// ---- values ----

Value Default(In in, Self self, Args args) {
  args.Check("default", {"default_value", "boolean"});
  const bool falls_back = self.is_undefined() || (args.Bool(1, "boolean", false) && !self.Truth());
  if (!falls_back) return self;
  return args.Has(0, "default_value") ? args.Get(0, "default_value") : in.NewString("");
}

Value Attr(In in, Self self, Args args) {
  return in.Attribute(self, ExpectString(args.Get(0, "name"), "attr").bytes());
}

Value Json(In in, Self self, Args args) { return in.NewString(ToJson(self, args)); }

Value ToString(In in, Self self, Args /*args*/) {
  return self.is_string() ? self : in.NewString(ToText(self));
}

Value Abs(In /*in*/, Self self, Args /*args*/) {
  if (!self.is_number())
    throw TemplateError(fmt::format("bad operand type for abs(): '{}'", self.TypeName()));
  if (self.is_float()) return Value::Float(std::abs(self.AsFloat()));
  return self.AsInt() < 0 ? Negate(self) : Value::Int(self.AsInt());
}

/// The number that a string spells, white space around it allowed.
std::optional<double> ParseNumber(In in, Self self) {
  if (!self.is_string()) return std::nullopt;
  const Value stripped = StripText(in, self, Value(), true, true);
  const std::string& text = stripped.bytes();
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  double number = 0;
  const auto [rest, error] = std::from_chars(begin, end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

Value ToInt(In in, Self self, Args args) {
  args.Check("int", {"default", "base"});
  const Value fallback = args.Has(0, "default") ? args.Get(0, "default") : Value::Int(0);
  if (self.is_integral()) return Value::Int(self.AsInt());
  if (self.is_string()) {
    const Value stripped = StripText(in, self, Value(), true, true);
    const std::string& text = stripped.bytes();
    int64_t number = 0;
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const char* end = text.data() + text.size();
    const auto base = static_cast<int>(std::clamp<int64_t>(args.Int(1, "base", 10), 2, 36));
    const auto [rest, error] = std::from_chars(begin, end, number, base);
    if (error == std::errc() && rest == end) return Value::Int(number);
  }
  const std::optional<double> number = self.is_float() ? self.AsFloat() : ParseNumber(in, self);
  if (!number || !(std::abs(*number) < 0x1p63)) return fallback;
  return Value::Int(static_cast<int64_t>(*number));
}

Value ToFloat(In in, Self self, Args args) {
  args.Check("float", {"default"});
  if (self.is_number()) return Value::Float(self.AsFloat());
  if (const auto number = ParseNumber(in, self)) return Value::Float(*number);
  return args.Has(0, "default") ? args.Get(0, "default") : Value::Float(0);
}

Value Round(In /*in*/, Self self, Args args) {
  args.Check("round", {"precision", "method"});
  if (!self.is_number()) throw TemplateError("round: expected a number");
  const int64_t precision = std::clamp<int64_t>(args.Int(0, "precision", 0), -300, 300);
  const std::string method =
      args.Has(1, "method") ? ExpectString(args.Get(1, "method"), "method").bytes() : "common";
  const double number = self.AsFloat();
  if (method == "common") {
    // Python rounds the exact decimal value, which the printing of digits does too.
    if (precision < 0) {
      const double scale = std::pow(10.0, static_cast<double>(-precision));
      return Value::Float(std::nearbyint(number / scale) * scale);
    }
    return Value::Float(std::stod(fmt::format("{:.{}f}", number, precision)));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value::Float(std::ceil(number * scale) / scale);
  if (method == "floor") return Value::Float(std::floor(number * scale) / scale);
  throw TemplateError("method must be common, ceil or floor");
}

const std::unordered_map<std::string_view, FilterFunction>& Filters() {
  static const std::unordered_map<std::string_view, FilterFunction> table = {
      {"abs", Abs},
      {"attr", Attr},
      {"batch", Batch},
      {"capitalize", Case<LetterCase::kCapitalize>},
      {"center", Center},
      {"count", Length},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"e", Escape},
      {"escape", Escape},
      {"first", First},
      {"float", ToFloat},
      {"format", Format},
      {"groupby", GroupBy},
      {"indent", Indent},
      {"int", ToInt},
      {"items", Items},
      {"join", Join},
      {"last", Last},
      {"length", Length},
      {"list", ToList},
      {"lower", Case<LetterCase::kLower>},
      {"map", Map},
      {"max", Extreme<1>},
      {"min", Extreme<-1>},
      {"reject", Select<0, false>},
      {"rejectattr", Select<1, false>},
      {"replace", Replace},
      {"reverse", Reverse},
      {"round", Round},
      {"safe", ToString},
      {"select", Select<0, true>},
      {"selectattr", Select<1, true>},
      {"sort", Sort},
      {"string", ToString},
      {"sum", Sum},
      {"title", Case<LetterCase::kTitleWords>},
      {"tojson", Json},
      {"trim", Trim},
      {"unique", Unique},
      {"upper", Case<LetterCase::kUpper>},
      {"wordcount", WordCount},
  };
  return table;
}

}  // namespace

FilterFunction FindFilter(std::string_view name) {
  const auto it = Filters().find(name);
  return it == Filters().end() ? nullptr : it->second;
}

}  // namespace gale::jinja
