// The methods of str, list and dict that templates call.
#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Args = const CallArguments&;

class BoundMethod : public Object {
 public:
  BoundMethod(Value self, std::string name, FilterFunction function)
      : self_(std::move(self)), name_(std::move(name)), function_(function) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value Call(Interpreter& interpreter, const CallArguments& arguments) override {
    return function_(interpreter, self_, arguments);
  }

 private:
  Value self_;
  std::string name_;
  FilterFunction function_;
};

// ---- str ----

template <bool kLeft, bool kRight>
Value Strip(In in, Self self, Args args) {
  args.Check("strip", {"chars"});
  return StripText(in, self, args.Get(0, "chars"), kLeft, kRight);
}

template <LetterCase kCase>
Value Case(In in, Self self, Args args) {
  args.Check("case", {});
  return ChangeCase(in, self, kCase);
}

/// Cuts at runs of white space.
std::vector<Value> SplitAtSpace(In in, const MarkedString& text, int64_t max_splits) {
  std::vector<Value> parts;
  const std::string_view bytes = text.bytes();
  Value rest = Value::String(text);
  size_t pos = 0;
  const auto is_space = [&](size_t at) {
    const char32_t c = text::CodePointAt(bytes, at);
    return text::IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);
  };
  while (true) {
    while (pos < bytes.size() && is_space(pos)) pos += text::Utf8Size(bytes[pos]);
    if (pos == bytes.size()) return parts;
    size_t end = pos;
    const bool is_rest = max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits;
    while (end < bytes.size() && (is_rest || !is_space(end))) end += text::Utf8Size(bytes[end]);
    in.Charge(16 * text.marks().size());
    const Value part = Value::String(text.Slice(pos, end));
    parts.push_back(is_rest ? StripText(in, part, Value(), false, true) : part);
    pos = end;
  }
}

std::vector<Value> SplitAt(In in, const MarkedString& text, const std::string& separator,
                           int64_t max_splits) {
  if (separator.empty()) throw TemplateError("empty separator");
  std::vector<Value> parts;
  size_t done = 0;
  for (size_t pos = 0; (pos = text.bytes().find(separator, done)) != std::string::npos;) {
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits) break;
    in.Charge(16 * text.marks().size());
    parts.push_back(in.NewString(text.Slice(done, pos)));
    done = pos + separator.size();
  }
  parts.push_back(in.NewString(text.Slice(done, text.size())));
  return parts;
}

std::vector<Value> SplitFromRight(In in, const MarkedString& text, const std::string& separator,
                                  int64_t max_splits) {
  if (separator.empty()) throw TemplateError("empty separator");
  std::vector<Value> parts;
  size_t end = text.size();
  while (max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits) {
    if (end < separator.size()) break;
    const size_t pos = text.bytes().rfind(separator, end - separator.size());
    if (pos == std::string::npos) break;
    in.Charge(16 * text.marks().size());
    parts.push_back(in.NewString(text.Slice(pos + separator.size(), end)));
    end = pos;
  }
  parts.push_back(in.NewString(text.Slice(0, end)));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value Split(In in, Self self, Args args) {
  args.Check("split", {"sep", "maxsplit"});
  const Value separator = args.Get(0, "sep");
  const int64_t max_splits = args.Int(1, "maxsplit", -1);
  if (!separator.is_string()) return in.NewList(SplitAtSpace(in, self.AsString(), max_splits));
  return in.NewList(SplitAt(in, self.AsString(), separator.bytes(), max_splits));
}

Value RightSplit(In in, Self self, Args args) {
  args.Check("rsplit", {"sep", "maxsplit"});
  const Value separator = args.Get(0, "sep");
  const int64_t max_splits = args.Int(1, "maxsplit", -1);
  if (!separator.is_string()) {
    if (max_splits >= 0) throw TemplateError("rsplit() with maxsplit needs a separator here");
    return in.NewList(SplitAtSpace(in, self.AsString(), -1));
  }
  return in.NewList(SplitFromRight(in, self.AsString(), separator.bytes(), max_splits));
}

Value SplitLines(In in, Self self, Args args) {
  args.Check("splitlines", {"keepends"});
  const bool keep_ends = args.Bool(0, "keepends", false);
  const MarkedString& text = self.AsString();
  const std::string& bytes = text.bytes();
  std::vector<Value> lines;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find_first_of("\n\r\v\f", begin), bytes.size());
    const size_t ending = bytes.compare(end, 2, "\r\n") == 0 ? 2 : end < bytes.size() ? 1 : 0;
    in.Charge(16 * text.marks().size());
    lines.push_back(in.NewString(text.Slice(begin, keep_ends ? end + ending : end)));
    begin = end + ending;
  }
  return in.NewList(std::move(lines));
}

/// True for one of several affixes too, as Python takes a tuple of them.
template <class Matches>
bool AnyAffix(const Value& affix, std::string_view what, Matches&& matches) {
  if (!affix.is_list()) return matches(ExpectString(affix, what).bytes());
  const auto& items = affix.AsList().items;
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& item) { return matches(ExpectString(item, what).bytes()); });
}

Value StartsWith(In /*in*/, Self self, Args args) {
  args.Check("startswith", {"prefix"});
  return Value::Bool(AnyAffix(args.Get(0, "prefix"), "startswith", [&](const std::string& affix) {
    return self.bytes().starts_with(affix);
  }));
}

Value EndsWith(In /*in*/, Self self, Args args) {
  args.Check("endswith", {"suffix"});
  return Value::Bool(AnyAffix(args.Get(0, "suffix"), "endswith", [&](const std::string& affix) {
    return self.bytes().ends_with(affix);
  }));
}

Value RemovePrefix(In in, Self self, Args args) {
  const std::string& prefix = ExpectString(args.Get(0, "prefix"), "removeprefix").bytes();
  if (!self.bytes().starts_with(prefix)) return self;
  return in.NewString(self.AsString().Slice(prefix.size(), self.bytes().size()));
}

Value RemoveSuffix(In in, Self self, Args args) {
  const std::string& suffix = ExpectString(args.Get(0, "suffix"), "removesuffix").bytes();
  if (!self.bytes().ends_with(suffix)) return self;
  return in.NewString(self.AsString().Slice(0, self.bytes().size() - suffix.size()));
}

Value Replace(In in, Self self, Args args) {
  args.Check("replace", {"old", "new", "count"});
  ExpectString(args.Get(0, "old"), "replace");
  ExpectString(args.Get(1, "new"), "replace");
  return ReplaceText(in, self, args.Get(0, "old"), args.Get(1, "new"), args.Int(2, "count", -1));
}

Value Join(In in, Self self, Args args) {
  args.Check("join", {"iterable"});
  const std::vector<Value> items = in.Iterate(args.Get(0, "iterable"));
  for (const Value& item : items) ExpectString(item, "join");
  return JoinText(in, items, self.AsString());
}

template <bool kFromRight, bool kMustExist>
Value Find(In in, Self self, Args args) {
  args.Check("find", {"sub"});
  const std::string& needle = ExpectString(args.Get(0, "sub"), "find").bytes();
  in.Charge(self.bytes().size());
  const size_t pos = kFromRight ? self.bytes().rfind(needle) : self.bytes().find(needle);
  if (pos == std::string::npos) {
    if (kMustExist) throw TemplateError("substring not found");
    return Value::Int(-1);
  }
  return Value::Int(static_cast<int64_t>(NumCharacters(self.bytes().substr(0, pos))));
}

Value CountText(In in, Self self, Args args) {
  const std::string& needle = ExpectString(args.Get(0, "sub"), "count").bytes();
  in.Charge(self.bytes().size());
  if (needle.empty()) return Value::Int(static_cast<int64_t>(NumCharacters(self.bytes())) + 1);
  int64_t count = 0;
  for (size_t pos = 0; (pos = self.bytes().find(needle, pos)) != std::string::npos;
       pos += needle.size()) {
    ++count;
  }
  return Value::Int(count);
}

/// True when the text is not empty and each character belongs to one of `categories`.
bool AllOf(const std::string& bytes, std::initializer_list<utf8proc_category_t> categories) {
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    const auto category =
        utf8proc_category(static_cast<utf8proc_int32_t>(text::CodePointAt(bytes, pos)));
    if (std::find(categories.begin(), categories.end(), category) == categories.end()) return false;
  }
  return !bytes.empty();
}

Value IsDigits(In /*in*/, Self self, Args /*args*/) {
  return Value::Bool(AllOf(self.bytes(), {UTF8PROC_CATEGORY_ND}));
}

Value IsAlpha(In /*in*/, Self self, Args /*args*/) {
  return Value::Bool(
      AllOf(self.bytes(), {UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LT,
                           UTF8PROC_CATEGORY_LM, UTF8PROC_CATEGORY_LO}));
}

Value IsAlphaNumeric(In /*in*/, Self self, Args /*args*/) {
  return Value::Bool(AllOf(
      self.bytes(),
      {UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LL, UTF8PROC_CATEGORY_LT, UTF8PROC_CATEGORY_LM,
       UTF8PROC_CATEGORY_LO, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NL, UTF8PROC_CATEGORY_NO}));
}

Value IsSpaces(In in, Self self, Args /*args*/) {
  const bool blank = StripText(in, self, Value(), true, false).bytes().empty();
  return Value::Bool(blank && !self.bytes().empty());
}

template <LetterCase kCase>
Value IsCase(In in, Self self, Args /*args*/) {
  const LetterCase other = kCase == LetterCase::kUpper ? LetterCase::kLower : LetterCase::kUpper;
  return Value::Bool(ChangeCase(in, self, kCase).bytes() == self.bytes() &&
                     ChangeCase(in, self, other).bytes() != self.bytes());
}

Value Format(In in, Self self, Args args) {
  const MarkedString& text = self.AsString();
  const std::string& bytes = text.bytes();
  MarkedString out;
  size_t next = 0;
  for (size_t pos = 0; pos < bytes.size();) {
    const char c = bytes[pos];
    if ((c == '{' || c == '}') && pos + 1 < bytes.size() && bytes[pos + 1] == c) {
      out.Append(text.Slice(pos, pos + 1));
      pos += 2;
      continue;
    }
    if (c != '{') {
      const size_t end = std::min(bytes.find_first_of("{}", pos + 1), bytes.size());
      out.Append(text.Slice(pos, end));
      pos = end;
      continue;
    }
    const size_t end = bytes.find('}', pos);
    if (end == std::string::npos) throw TemplateError("format(): a \"{\" is not closed");
    const std::string field = bytes.substr(pos + 1, end - pos - 1);
    const bool is_index =
        !field.empty() && field.size() < 5 &&
        std::all_of(field.begin(), field.end(), [](char d) { return d >= '0' && d <= '9'; });
    const size_t index = field.empty() ? next++ : is_index ? std::stoul(field) : SIZE_MAX;
    if (!args.Has(index, field)) {
      throw TemplateError(
          fmt::format("format(): nothing for field \"{{{}}}\" (plain fields only)", field));
    }
    out.Append(ToText(args.Get(index, field)));
    in.Charge(out.size());
    pos = end + 1;
  }
  return in.NewString(std::move(out));
}

// ---- list ----

void ExpectMutable(Self self, const char* method) {
  if (self.AsList().is_tuple)
    throw TemplateError(fmt::format("'tuple' has no method '{}'", method));
}

Value Append(In in, Self self, Args args) {
  ExpectMutable(self, "append");
  args.Check("append", {"object"});
  in.Charge(sizeof(Value));
  self.AsList().items.push_back(args.Get(0, "object"));
  return Value::None();
}

Value Extend(In in, Self self, Args args) {
  ExpectMutable(self, "extend");
  const std::vector<Value> items = in.Iterate(args.Get(0, "iterable"));
  self.AsList().items.insert(self.AsList().items.end(), items.begin(), items.end());
  return Value::None();
}

Value Insert(In in, Self self, Args args) {
  ExpectMutable(self, "insert");
  auto& items = self.AsList().items;
  in.Charge(items.size() * sizeof(Value));
  const auto size = static_cast<int64_t>(items.size());
  int64_t index = args.Int(0, "index", 0);
  if (index < 0) index += size;
  items.insert(items.begin() + std::clamp<int64_t>(index, 0, size), args.Get(1, "object"));
  return Value::None();
}

Value PopItem(In in, Self self, Args args) {
  ExpectMutable(self, "pop");
  auto& items = self.AsList().items;
  in.Charge(items.size() * sizeof(Value));
  const auto size = static_cast<int64_t>(items.size());
  int64_t index = args.Int(0, "index", -1);
  if (index < 0) index += size;
  if (index < 0 || index >= size) throw TemplateError("pop(): the list has no such element");
  Value value = items[static_cast<size_t>(index)];
  items.erase(items.begin() + index);
  return value;
}

Value IndexOf(In in, Self self, Args args) {
  const auto& items = self.AsList().items;
  in.Charge(items.size() * 16);
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equal(items[i], args.Get(0, "value"))) return Value::Int(static_cast<int64_t>(i));
  }
  throw TemplateError("index(): the value is not in the list");
}

Value CountItems(In in, Self self, Args args) {
  const auto& items = self.AsList().items;
  in.Charge(items.size() * 16);
  return Value::Int(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return Equal(item, args.Get(0, "value"));
  }));
}

Value ReverseList(In /*in*/, Self self, Args /*args*/) {
  ExpectMutable(self, "reverse");
  std::reverse(self.AsList().items.begin(), self.AsList().items.end());
  return Value::None();
}

Value CopyList(In in, Self self, Args /*args*/) { return in.NewList(self.AsList().items); }

Value ClearList(In /*in*/, Self self, Args /*args*/) {
  ExpectMutable(self, "clear");
  self.AsList().items.clear();
  return Value::None();
}

// ---- dict ----

Value Get(In /*in*/, Self self, Args args) {
  args.Check("get", {"key", "default"});
  const Value* value = self.AsDict().Find(args.Get(0, "key"));
  if (value != nullptr) return *value;
  return args.Has(1, "default") ? args.Get(1, "default") : Value::None();
}

Value Keys(In in, Self self, Args /*args*/) { return in.NewList(in.Iterate(self)); }

Value Values(In in, Self self, Args /*args*/) {
  std::vector<Value> values;
  for (const auto& [key, value] : self.AsDict().entries()) values.push_back(value);
  return in.NewList(std::move(values));
}

Value Update(In in, Self self, Args args) {
  const Value other = args.Get(0, "");
  Dict& dict = self.AsDict();
  if (other.is_dict()) {
    const auto entries = other.AsDict().entries();
    in.Charge(entries.size() * 2 * sizeof(Value));
    for (const auto& [key, value] : entries) dict.Set(key, value);
  } else if (!other.is_undefined()) {
    throw TemplateError("update(): expected a dict");
  }
  for (const auto& [name, value] : args.named) dict.Set(Value::String(name), value);
  return Value::None();
}

Value PopKey(In in, Self self, Args args) {
  args.Check("pop", {"key", "default"});
  Dict& dict = self.AsDict();
  in.Charge(dict.size() * 16);
  const Value key = args.Get(0, "key");
  if (const Value* found = dict.Find(key)) {
    Value value = *found;
    dict.Erase(key);
    return value;
  }
  if (args.Has(1, "default")) return args.Get(1, "default");
  throw TemplateError(fmt::format("pop(): no key {}", Repr(key).bytes()));
}

Value SetDefault(In in, Self self, Args args) {
  const Value key = args.Get(0, "key");
  if (const Value* value = self.AsDict().Find(key)) return *value;
  in.Charge(2 * sizeof(Value));
  Value value = args.Has(1, "default") ? args.Get(1, "default") : Value::None();
  self.AsDict().Set(key, value);
  return value;
}

Value CopyDict(In in, Self self, Args /*args*/) {
  Dict* copy = in.heap().NewDict();
  in.Charge(self.AsDict().size() * 2 * sizeof(Value));
  for (const auto& [key, value] : self.AsDict().entries()) copy->Set(key, value);
  return Value::Of(copy);
}

Value ClearDict(In /*in*/, Self self, Args /*args*/) {
  self.AsDict().Clear();
  return Value::None();
}

Value Items(In in, Self self, Args args) { return in.Filter("items", self, args); }

using Table = std::unordered_map<std::string_view, FilterFunction>;

const Table& StringMethods() {
  static const Table table = {
      {"capitalize", Case<LetterCase::kCapitalize>},
      {"count", CountText},
      {"endswith", EndsWith},
      {"find", Find<false, false>},
      {"format", Format},
      {"index", Find<false, true>},
      {"isalnum", IsAlphaNumeric},
      {"isalpha", IsAlpha},
      {"isdigit", IsDigits},
      {"islower", IsCase<LetterCase::kLower>},
      {"isspace", IsSpaces},
      {"isupper", IsCase<LetterCase::kUpper>},
      {"join", Join},
      {"lower", Case<LetterCase::kLower>},
      {"lstrip", Strip<true, false>},
      {"removeprefix", RemovePrefix},
      {"removesuffix", RemoveSuffix},
      {"replace", Replace},
      {"rfind", Find<true, false>},
      {"rsplit", RightSplit},
      {"rstrip", Strip<false, true>},
      {"split", Split},
      {"splitlines", SplitLines},
      {"startswith", StartsWith},
      {"strip", Strip<true, true>},
      {"title", Case<LetterCase::kTitle>},
      {"upper", Case<LetterCase::kUpper>},
  };
  return table;
}

const Table& ListMethods() {
  static const Table table = {
      {"append", Append},    {"clear", ClearList}, {"copy", CopyList},
      {"count", CountItems}, {"extend", Extend},   {"index", IndexOf},
      {"insert", Insert},    {"pop", PopItem},     {"reverse", ReverseList},
  };
  return table;
}

const Table& DictMethods() {
  static const Table table = {
      {"clear", ClearDict},       {"copy", CopyDict}, {"get", Get},
      {"items", Items},           {"keys", Keys},     {"pop", PopKey},
      {"setdefault", SetDefault}, {"update", Update}, {"values", Values},
  };
  return table;
}

}  // namespace

FilterFunction FindMethod(const Value& object, std::string_view name) {
  static const Table none;
  const Table& table = object.is_string() ? StringMethods()
                       : object.is_list() ? ListMethods()
                       : object.is_dict() ? DictMethods()
                                          : none;
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

Value BindMethod(Interpreter& interpreter, const Value& object, std::string_view name,
                 FilterFunction function) {
  interpreter.Charge(sizeof(BoundMethod));
  return Value::Of(static_cast<Object*>(
      interpreter.heap().NewObject<BoundMethod>(object, std::string(name), function)));
}

}  // namespace gale::jinja
