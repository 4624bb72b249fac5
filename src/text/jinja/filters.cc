// The filters of `x | ...` on sequences, dicts and numbers, after Jinja's own
// (jinja.palletsprojects.com/templates) and the tojson of transformers.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/integer.h"

namespace gale::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Args = const CallArguments&;

/// "a.b.0": attributes and indices, one after the other; `fallback` for each that is undefined.
Value Path(In in, Value value, const Value& path, const Value& fallback = {}) {
  if (path.is_undefined() || path.is_none()) return value;
  if (!path.is_string()) return in.Item(value, path);
  const std::string& text = path.bytes();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool is_index = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
    value = in.Item(value, is_index ? *ParseInteger(part, 10) : Value::String(part));
    const bool falls_back = value.is_undefined() && !fallback.is_undefined() && !fallback.is_none();
    if (falls_back) value = fallback;
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

/// What unique, min, max and groupby compare: an attribute or the item, strings in lower case
/// unless they are case-sensitive.
Value SortKey(In in, const Value& item, const Value& attribute, bool case_sensitive,
              const Value& fallback = {}) {
  Value key = Path(in, item, attribute, fallback);
  return key.is_string() && !case_sensitive ? ChangeCase(in, key, TextCase::kLower) : key;
}

using Keyed = std::pair<Value, Value>;  ///< sort key, item

std::vector<Keyed> WithKeys(In in, Self self, const Value& attribute, bool case_sensitive,
                            const Value& fallback = {}) {
  std::vector<Keyed> keyed;
  for (const Value& item : in.Iterate(self)) {
    keyed.emplace_back(SortKey(in, item, attribute, case_sensitive, fallback), item);
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

Value ItemsOf(In in, std::vector<Keyed> keyed) {
  std::vector<Value> items;
  for (Keyed& entry : keyed) items.push_back(std::move(entry.second));
  return in.NewList(std::move(items));
}

Value NewGenerator(In in, std::vector<Value> items) {
  return in.NewList(std::move(items), List::Shape::kGenerator);
}

// ---- sequences ----

Value Length(In in, Self self, Args /*args*/) {
  if (self.is_string()) {
    in.Charge(self.bytes().size());
    return Value::Int(static_cast<int64_t>(NumCharacters(self.bytes())));
  }
  if (self.is_list() && !self.AsList().is_generator()) {
    return Value::Int(static_cast<int64_t>(self.AsList().items.size()));
  }
  if (self.is_dict()) return Value::Int(static_cast<int64_t>(self.AsDict().size()));
  if (self.is_undefined()) return Value::Int(0);
  throw TemplateError(fmt::format("object of type '{}' has no len()", self.TypeName()));
}

Value First(In in, Self self, Args args) {
  args.CheckPositional("first", 0, 0);
  if (self.is_list() && self.AsList().is_generator()) {
    auto& items = self.AsList().items;
    if (items.empty()) return Value::Undefined("No first item, sequence was empty.");
    const Value first = items.front();
    items.erase(items.begin());
    return first;
  }
  const std::vector<Value> items = in.Iterate(self);
  return items.empty() ? Value::Undefined("No first item, sequence was empty.") : items.front();
}

Value Last(In in, Self self, Args args) {
  args.CheckPositional("last", 0, 0);
  if (self.is_list() && self.AsList().is_generator()) {
    throw TemplateError("'generator' object is not reversible");
  }
  const std::vector<Value> items = in.Iterate(self);
  return items.empty() ? Value::Undefined("No last item, sequence was empty.") : items.back();
}

Value ToList(In in, Self self, Args args) {
  args.CheckPositional("list", 0, 0);
  return in.NewList(in.Iterate(self));
}

Value Join(In in, Self self, Args args) {
  args.Check("join", {"d", "attribute"});
  std::vector<Value> items = in.Iterate(self);
  for (Value& item : items) item = Path(in, item, args.Get(1, "attribute"));
  return JoinText(in, items, ToText(args.Get(0, "d")));
}

Value Reverse(In in, Self self, Args args) {
  args.CheckPositional("reverse", 0, 0);
  const bool is_generator = self.is_list() && self.AsList().is_generator();
  std::vector<Value> items = in.Iterate(self);
  std::reverse(items.begin(), items.end());
  if (self.is_string()) return JoinText(in, items, MarkedString());
  return is_generator ? in.NewList(std::move(items)) : NewGenerator(in, std::move(items));
}

Value Items(In in, Self self, Args args) {
  args.CheckPositional("items", 0, 0);
  std::vector<Value> pairs;
  if (self.is_undefined()) return NewGenerator(in, {});
  if (!self.is_dict()) throw TemplateError("Can only get item pairs from a mapping.");
  for (const auto& [key, value] : self.AsDict().entries()) {
    pairs.push_back(in.NewList({key, value}, List::Shape::kTuple));
  }
  return NewGenerator(in, std::move(pairs));
}

Value DictSort(In in, Self self, Args args) {
  args.Check("dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = args.Has(1, "by") ? ExpectString(args.Get(1, "by"), "by").bytes() : "key";
  if (by != "key" && by != "value") {
    throw TemplateError("You can only sort by either \"key\" or \"value\"");
  }
  if (self.is_undefined()) throw TemplateError(self.UndefinedWhat());
  std::vector<Keyed> keyed;
  for (const Value& pair : Items(in, self, {}).AsList().items) {
    const Value& compared = pair.AsList().items[by == "value" ? 1 : 0];
    keyed.emplace_back(SortKey(in, compared, Value(), args.Bool(0, "case_sensitive", false)), pair);
  }
  SortByKey(in, &keyed, args.Bool(2, "reverse", false));
  return ItemsOf(in, std::move(keyed));
}

/// Sorts by one attribute or several ("age,name"), which Python compares as a list.
Value Sort(In in, Self self, Args args) {
  args.Check("sort", {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = args.Bool(1, "case_sensitive", false);
  std::vector<Value> paths = {args.Get(2, "attribute")};
  if (paths[0].is_string()) {
    const Value names = std::exchange(paths, {})[0];
    for (size_t begin = 0; begin <= names.bytes().size();) {
      const size_t end = std::min(names.bytes().find(',', begin), names.bytes().size());
      paths.push_back(Value::String(names.bytes().substr(begin, end - begin)));
      begin = end + 1;
    }
  }
  std::vector<Keyed> keyed;
  for (const Value& item : in.Iterate(self)) {
    std::vector<Value> keys;
    for (const Value& path : paths) keys.push_back(SortKey(in, item, path, case_sensitive));
    keyed.emplace_back(in.NewList(std::move(keys)), item);
  }
  SortByKey(in, &keyed, args.Bool(0, "reverse", false));
  return ItemsOf(in, std::move(keyed));
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
  return NewGenerator(in, std::move(items));
}

template <int kSign>
Value Extreme(In in, Self self, Args args) {
  args.Check("min/max", {"case_sensitive", "attribute"});
  const std::vector<Keyed> keyed =
      WithKeys(in, self, args.Get(1, "attribute"), args.Bool(0, "case_sensitive", false));
  if (keyed.empty()) return Value::Undefined("No aggregated item, sequence was empty.");
  const Keyed* best = &keyed[0];
  for (size_t i = 1; i < keyed.size(); ++i) {
    if (Compare(keyed[i].first, best->first) * kSign > 0) best = &keyed[i];
  }
  return best->second;
}

Value GroupBy(In in, Self self, Args args) {
  args.Check("groupby", {"attribute", "default", "case_sensitive"}, 1);
  const Value fallback = args.Get(1, "default");
  std::vector<Keyed> keyed =
      WithKeys(in, self, args.Get(0, "attribute"), args.Bool(2, "case_sensitive", false), fallback);
  SortByKey(in, &keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin;
    std::vector<Value> members;
    while (end < keyed.size() && Equal(keyed[end].first, keyed[begin].first)) {
      members.push_back(keyed[end++].second);
    }
    const Value key = Path(in, keyed[begin].second, args.Get(0, "attribute"), fallback);
    groups.push_back(in.NewList({key, in.NewList(std::move(members))}, List::Shape::kGroup));
    begin = end;
  }
  return in.NewList(std::move(groups));
}

Value Sum(In in, Self self, Args args) {
  args.Check("sum", {"attribute", "start"});
  const Value attribute = args.Get(0, "attribute");
  Value total = args.Has(1, "start") ? args.Get(1, "start") : Value::Int(0);
  if (total.is_string()) throw TemplateError("sum() can't sum strings");
  for (const Value& item : in.Iterate(self)) {
    total = Arithmetic(in, BinaryOp::kAdd, total, Path(in, item, attribute));
  }
  return total;
}

Value Map(In in, Self self, Args args) {
  std::vector<Value> results;
  if (args.positional.empty()) {
    args.Check("map", {"attribute", "default"}, 1);
    for (const Value& item : in.Iterate(self)) {
      results.push_back(Path(in, item, args.Get(0, "attribute"), args.Get(1, "default")));
    }
    return NewGenerator(in, std::move(results));
  }
  const std::string& name = ExpectString(args.positional[0], "map").bytes();
  const CallArguments rest = Rest(args, 1);
  for (const Value& item : in.Iterate(self)) results.push_back(in.Filter(name, item, rest));
  return NewGenerator(in, std::move(results));
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
  return NewGenerator(in, std::move(kept));
}

Value Batch(In in, Self self, Args args) {
  args.Check("batch", {"linecount", "fill_with"}, 1);
  const int64_t size = args.Int(0, "linecount", 0);
  if (size < 1) throw TemplateError("batch: the count must be at least 1");
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : in.Iterate(self)) {
    if (static_cast<int64_t>(row.size()) == size)
      rows.push_back(in.NewList(std::exchange(row, {})));
    row.push_back(item);
  }
  if (row.empty()) return NewGenerator(in, std::move(rows));
  if (args.Has(1, "fill_with") && !args.Get(1, "fill_with").is_none()) {
    in.Charge(static_cast<size_t>(size) * sizeof(Value));
    row.resize(static_cast<size_t>(size), args.Get(1, "fill_with"));
  }
  rows.push_back(in.NewList(std::move(row)));
  return NewGenerator(in, std::move(rows));
}

/// Columns of nearly equal length, the longer ones first.
Value SliceColumns(In in, Self self, Args args) {
  args.Check("slice", {"slices", "fill_with"}, 1);
  const int64_t num_slices = args.Int(0, "slices", 0);
  if (num_slices < 1) throw TemplateError("slice: the count must be at least 1");
  const std::vector<Value> items = in.Iterate(self);
  const auto size = static_cast<int64_t>(items.size());
  const Value fill = args.Get(1, "fill_with");
  std::vector<Value> columns;
  auto next = items.begin();
  for (int64_t i = 0; i < num_slices; ++i) {
    const bool is_longer = i < size % num_slices;
    std::vector<Value> column(next, next + size / num_slices + (is_longer ? 1 : 0));
    next += static_cast<ptrdiff_t>(column.size());
    if (!is_longer && !fill.is_undefined() && !fill.is_none()) column.push_back(fill);
    columns.push_back(in.NewList(std::move(column)));
  }
  return NewGenerator(in, std::move(columns));
}

// ---- values ----

Value Default(In in, Self self, Args args) {
  args.Check("default", {"default_value", "boolean"});
  const bool falls_back = self.is_undefined() || (args.Bool(1, "boolean", false) && !self.Truth());
  if (!falls_back) return self;
  return args.Has(0, "default_value") ? args.Get(0, "default_value") : in.NewString("");
}

/// Unlike x.name, this sees attributes only, no keys of a dict.
Value Attr(In in, Self self, Args args) {
  args.Check("attr", {"name"}, 1);
  const std::string& name = ExpectString(args.Get(0, "name"), "attr").bytes();
  if (self.is_dict() && FindMethod(self, name) == nullptr) {
    return Value::Undefined(fmt::format("'dict object' has no attribute '{}'", name));
  }
  return in.Attribute(self, name);
}

Value Json(In in, Self self, Args args) { return in.NewString(ToJson(self, args)); }

Value Abs(In /*in*/, Self self, Args /*args*/) {
  if (self.is_undefined()) throw TemplateError(self.UndefinedWhat());
  if (!self.is_number()) {
    throw TemplateError(fmt::format("bad operand type for abs(): '{}'", self.TypeName()));
  }
  if (self.is_float()) return Value::Float(std::abs(self.AsFloat()));
  if (CompareIntegers(self, Value::Int(0)) < 0) return Negate(self);
  return self.is_bool() ? Value::Int(self.AsInt()) : self;
}

/// float(text): white space around it, "_" between digits, inf and nan allowed.
std::optional<double> ParseNumber(In in, Self self) {
  if (!self.is_string()) return std::nullopt;
  const Value stripped = StripText(in, self, Value(), true, true);
  std::string text;
  for (size_t i = 0; i < stripped.bytes().size(); ++i) {
    const char c = stripped.bytes()[i];
    const auto is_digit = [&](size_t at) {
      return at < stripped.bytes().size() && stripped.bytes()[at] >= '0' &&
             stripped.bytes()[at] <= '9';
    };
    if (c == '_' && !(i > 0 && is_digit(i - 1) && is_digit(i + 1))) return std::nullopt;
    if (c != '_') text.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c);
  }
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  if (text.starts_with("+-") || text.find('(') != text.npos) return std::nullopt;
  const char* end = text.data() + text.size();
  double number = 0;
  const auto [rest, error] = std::from_chars(begin, end, number);
  if (rest != end || begin == end || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range) number = std::strtod(text.c_str(), nullptr);
  return number;
}

Value ToInt(In in, Self self, Args args) {
  args.Check("int", {"default", "base"});
  const Value fallback = args.Has(0, "default") ? args.Get(0, "default") : Value::Int(0);
  if (self.is_undefined()) throw TemplateError(self.UndefinedWhat());
  if (self.is_integral()) return self.is_bool() ? Value::Int(self.AsInt()) : self;
  if (self.is_string()) {
    const Value stripped = StripText(in, self, Value(), true, true);
    const int64_t base = args.Int(1, "base", 10);
    const bool is_base = base == 0 || (base >= 2 && base <= 36);
    if (is_base) {
      if (auto number = ParseInteger(stripped.bytes(), static_cast<int>(base))) return *number;
    }
  } else if (self.is_float() && std::isinf(self.AsFloat())) {
    throw TemplateError("cannot convert float infinity to integer");
  }
  const std::optional<double> number = self.is_float() ? self.AsFloat() : ParseNumber(in, self);
  return number && std::isfinite(*number) ? IntegerFromDouble(*number) : fallback;
}

Value ToFloat(In in, Self self, Args args) {
  args.Check("float", {"default"});
  if (self.is_undefined()) throw TemplateError(self.UndefinedWhat());
  if (self.is_number()) return Value::Float(self.AsFloat());
  if (const auto number = ParseNumber(in, self)) return Value::Float(*number);
  return args.Has(0, "default") ? args.Get(0, "default") : Value::Float(0);
}

/// round(number, precision) of Python: to the even one of two that are equally near.
Value RoundCommon(Self self, int64_t precision) {
  if (self.is_float()) {
    const double number = self.AsFloat();
    if (!std::isfinite(number)) return self;
    // Python rounds the exact decimal value, which the printing of digits does too.
    if (precision >= 0) return Value::Float(std::stod(fmt::format("{:.{}f}", number, precision)));
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return Value::Float(std::nearbyint(number / scale) * scale);
  }
  const Value integer = self.is_bool() ? Value::Int(self.AsInt()) : self;
  if (precision >= 0) return integer;
  const Value scale = IntegerArithmetic(BinaryOp::kPower, Value::Int(10), Value::Int(-precision));
  const Value rest = IntegerArithmetic(BinaryOp::kModulo, integer, scale);
  const Value below = IntegerArithmetic(BinaryOp::kSubtract, integer, rest);
  const int order = CompareIntegers(IntegerArithmetic(BinaryOp::kAdd, rest, rest), scale);
  const Value steps = IntegerArithmetic(BinaryOp::kFloorDivide, below, scale);
  const bool is_odd = IntegerArithmetic(BinaryOp::kModulo, steps, Value::Int(2)).Truth();
  const bool up = order > 0 || (order == 0 && is_odd);
  return up ? IntegerArithmetic(BinaryOp::kAdd, below, scale) : below;
}

Value Round(In /*in*/, Self self, Args args) {
  args.Check("round", {"precision", "method"});
  if (self.is_undefined()) throw TemplateError(self.UndefinedWhat());
  if (!self.is_number()) throw TemplateError("round: expected a number");
  const int64_t precision = std::clamp<int64_t>(args.Int(0, "precision", 0), -300, 300);
  const std::string method =
      args.Has(1, "method") ? ExpectString(args.Get(1, "method"), "method").bytes() : "common";
  if (method == "common") return RoundCommon(self, precision);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double number = self.AsFloat();
  if (!std::isfinite(number)) throw TemplateError("round: the number is not finite");
  if (method == "ceil") return Value::Float(std::ceil(number * scale) / scale);
  if (method == "floor") return Value::Float(std::floor(number * scale) / scale);
  throw TemplateError("method must be common, ceil or floor");
}

const FilterTable& ValueFilters() {
  static const FilterTable table = {
      {"abs", Abs},
      {"attr", Attr},
      {"batch", Batch},
      {"count", Length},
      {"d", Default},
      {"default", Default},
      {"dictsort", DictSort},
      {"first", First},
      {"float", ToFloat},
      {"groupby", GroupBy},
      {"int", ToInt},
      {"items", Items},
      {"join", Join},
      {"last", Last},
      {"length", Length},
      {"list", ToList},
      {"map", Map},
      {"max", Extreme<1>},
      {"min", Extreme<-1>},
      {"reject", Select<0, false>},
      {"rejectattr", Select<1, false>},
      {"reverse", Reverse},
      {"round", Round},
      {"select", Select<0, true>},
      {"selectattr", Select<1, true>},
      {"slice", SliceColumns},
      {"sort", Sort},
      {"sum", Sum},
      {"tojson", Json},
      {"unique", Unique},
  };
  return table;
}

}  // namespace

FilterFunction FindFilter(std::string_view name) {
  for (const FilterTable* table : {&ValueFilters(), &StringFilters()}) {
    const auto it = table->find(name);
    if (it != table->end()) return it->second;
  }
  return nullptr;
}

}  // namespace gale::jinja
