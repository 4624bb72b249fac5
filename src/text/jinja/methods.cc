// The methods of str, list and dict that templates call.
#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/case_mapping.h"
#include "text/jinja/format.h"
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
  args.CheckPositional("strip", 0, 1);
  const Value characters = args.Get(0, "");
  if (!args.positional.empty() && !characters.is_none()) ExpectString(characters, "strip");
  return StripText(in, self, characters, kLeft, kRight);
}

template <TextCase kCase>
Value Case(In in, Self self, Args args) {
  args.CheckPositional("case", 0, 0);
  return ChangeCase(in, self, kCase);
}

/// Cuts at runs of white space.
std::vector<Value> SplitAtSpace(In in, const MarkedString& text, int64_t max_splits) {
  std::vector<Value> parts;
  const std::string_view bytes = text.bytes();
  size_t pos = 0;
  const auto is_space = [&](size_t at) { return IsSpace(text::CodePointAt(bytes, at)); };
  while (true) {
    while (pos < bytes.size() && is_space(pos)) pos += text::Utf8Size(bytes[pos]);
    if (pos == bytes.size()) return parts;
    size_t end = pos;
    const bool is_rest = max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits;
    while (end < bytes.size() && (is_rest || !is_space(end))) end += text::Utf8Size(bytes[end]);
    in.Charge(16 * text.marks().size());
    parts.push_back(in.NewString(text.Slice(pos, end)));
    if (is_rest) parts.back() = StripText(in, parts.back(), Value(), false, true);
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

std::vector<Value> SplitAtSpaceFromRight(In in, const MarkedString& text, int64_t max_splits) {
  const std::string_view bytes = text.bytes();
  const auto previous = [&](size_t pos) {
    do --pos;
    while ((static_cast<uint8_t>(bytes[pos]) & 0xC0) == 0x80);
    return pos;
  };
  const auto skip = [&](size_t pos, bool space) {
    while (pos > 0 && IsSpace(text::CodePointAt(bytes, previous(pos))) == space)
      pos = previous(pos);
    return pos;
  };
  std::vector<Value> parts;
  for (size_t end = skip(bytes.size(), true); end > 0; end = skip(end, true)) {
    if (static_cast<int64_t>(parts.size()) == max_splits) {
      const Value rest = Value::String(text.Slice(0, end));
      parts.push_back(StripText(in, rest, Value(), true, false));
      break;
    }
    const size_t begin = skip(end, false);
    in.Charge(16 * text.marks().size());
    parts.push_back(in.NewString(text.Slice(begin, end)));
    end = begin;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

template <bool kFromRight>
Value Split(In in, Self self, Args args) {
  args.Check("split", {"sep", "maxsplit"});
  const Value separator = args.Get(0, "sep");
  const int64_t max_splits = args.Int(1, "maxsplit", -1);
  const MarkedString& text = self.AsString();
  if (!args.Has(0, "sep") || separator.is_none()) {
    if (kFromRight && max_splits >= 0)
      return in.NewList(SplitAtSpaceFromRight(in, text, max_splits));
    return in.NewList(SplitAtSpace(in, text, max_splits));
  }
  const std::string& bytes = ExpectString(separator, "split").bytes();
  return in.NewList(kFromRight ? SplitFromRight(in, text, bytes, max_splits)
                               : SplitAt(in, text, bytes, max_splits));
}

template <bool kFromRight>
Value Partition(In in, Self self, Args args) {
  args.CheckPositional("partition", 1, 1);
  const MarkedString& text = self.AsString();
  const MarkedString& separator = ExpectString(args.positional[0], "partition");
  if (separator.size() == 0) throw TemplateError("empty separator");
  const size_t pos =
      kFromRight ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  const Value empty = in.NewString("");
  if (pos == std::string::npos) {
    return kFromRight ? in.NewList({empty, empty, self}, List::Shape::kTuple)
                      : in.NewList({self, empty, empty}, List::Shape::kTuple);
  }
  return in.NewList({in.NewString(text.Slice(0, pos)), args.positional[0],
                     in.NewString(text.Slice(pos + separator.size(), text.size()))},
                    List::Shape::kTuple);
}

Value Lines(In in, Self self, Args args) {
  args.Check("splitlines", {"keepends"});
  const bool keep_ends = args.Bool(0, "keepends", false);
  const MarkedString& text = self.AsString();
  std::vector<Value> lines;
  for (const Line& line : SplitLines(text.bytes())) {
    in.Charge(16 * text.marks().size());
    lines.push_back(in.NewString(text.Slice(line.begin, keep_ends ? line.next : line.end)));
  }
  return in.NewList(std::move(lines));
}

/// The bytes of self[start:end], by the arguments behind the first.
struct Window {
  size_t begin, end;
  bool is_valid;  ///< start is not behind the end of the text
};

Window TakeWindow(In in, Self self, Args args, const char* method) {
  args.CheckPositional(method, 1, 3);
  const std::string& bytes = self.bytes();
  if (args.positional.size() == 1) return {0, bytes.size(), true};
  in.Charge(bytes.size());
  const std::vector<size_t> offsets = CharacterOffsets(bytes);
  const auto size = static_cast<int64_t>(offsets.size()) - 1;
  const auto bound = [&](size_t index, int64_t fallback) {
    if (index >= args.positional.size() || args.positional[index].is_none()) return fallback;
    const int64_t value = args.Int(index, method, fallback);
    return std::max<int64_t>(value < 0 ? value + size : value, 0);
  };
  const int64_t begin = bound(1, 0);
  const int64_t end = std::min(bound(2, size), size);
  if (begin > end) return {0, 0, false};
  return {offsets[static_cast<size_t>(begin)], offsets[static_cast<size_t>(end)], true};
}

/// startswith and endswith; Python takes a tuple of affixes too, and a part of the text.
template <bool kAtEnd>
Value HasAffix(In in, Self self, Args args) {
  const char* name = kAtEnd ? "endswith" : "startswith";
  const Window window = TakeWindow(in, self, args, name);
  const std::string_view text =
      std::string_view(self.bytes()).substr(window.begin, window.end - window.begin);
  const auto matches = [&](const Value& affix) {
    const std::string& bytes = ExpectString(affix, name).bytes();
    return window.is_valid && (kAtEnd ? text.ends_with(bytes) : text.starts_with(bytes));
  };
  const Value affix = args.positional[0];
  if (!affix.is_list() || !affix.AsList().is_tuple()) return Value::Bool(matches(affix));
  const auto& items = affix.AsList().items;
  return Value::Bool(std::any_of(items.begin(), items.end(), matches));
}

Value RemovePrefix(In in, Self self, Args args) {
  args.CheckPositional("removeprefix", 1, 1);
  const std::string& prefix = ExpectString(args.positional[0], "removeprefix").bytes();
  if (!self.bytes().starts_with(prefix)) return self;
  return in.NewString(self.AsString().Slice(prefix.size(), self.bytes().size()));
}

Value RemoveSuffix(In in, Self self, Args args) {
  args.CheckPositional("removesuffix", 1, 1);
  const std::string& suffix = ExpectString(args.positional[0], "removesuffix").bytes();
  if (!self.bytes().ends_with(suffix)) return self;
  return in.NewString(self.AsString().Slice(0, self.bytes().size() - suffix.size()));
}

Value Replace(In in, Self self, Args args) {
  args.CheckPositional("replace", 2, 3);
  ExpectString(args.positional[0], "replace");
  ExpectString(args.positional[1], "replace");
  return ReplaceText(in, self, args.positional[0], args.positional[1], args.Int(2, "count", -1));
}

Value Join(In in, Self self, Args args) {
  args.CheckPositional("join", 1, 1);
  const std::vector<Value> items = in.Iterate(args.positional[0]);
  for (const Value& item : items) ExpectString(item, "join");
  return JoinText(in, items, self.AsString());
}

template <bool kFromRight, bool kMustExist>
Value Find(In in, Self self, Args args) {
  const Window window = TakeWindow(in, self, args, "find");
  const std::string& needle = ExpectString(args.positional[0], "find").bytes();
  in.Charge(self.bytes().size());
  const std::string_view text = std::string_view(self.bytes()).substr(0, window.end);
  const std::string_view part = text.substr(window.begin);
  const size_t pos = !window.is_valid ? part.npos
                     : kFromRight     ? part.rfind(needle)
                                      : part.find(needle);
  if (pos == part.npos) {
    if (kMustExist) throw TemplateError("substring not found");
    return Value::Int(-1);
  }
  return Value::Int(static_cast<int64_t>(NumCharacters(text.substr(0, window.begin + pos))));
}

Value CountText(In in, Self self, Args args) {
  const Window window = TakeWindow(in, self, args, "count");
  const std::string& needle = ExpectString(args.positional[0], "count").bytes();
  in.Charge(self.bytes().size());
  if (!window.is_valid) return Value::Int(0);
  const std::string_view text =
      std::string_view(self.bytes()).substr(window.begin, window.end - window.begin);
  if (needle.empty()) return Value::Int(static_cast<int64_t>(NumCharacters(text)) + 1);
  int64_t count = 0;
  for (size_t pos = 0; (pos = text.find(needle, pos)) != text.npos; pos += needle.size()) ++count;
  return Value::Int(count);
}

/// center, ljust, rjust: padding on both sides, on the right, on the left.
template <bool kLeft, bool kRight>
Value Justify(In in, Self self, Args args) {
  args.CheckPositional("ljust/rjust/center", 1, 2);
  const bool has_fill = args.positional.size() > 1;
  const MarkedString fill =
      has_fill ? ExpectString(args.positional[1], "fillchar") : MarkedString(" ");
  if (NumCharacters(fill.bytes()) != 1) {
    throw TemplateError("The fill character must be exactly one character long");
  }
  const int64_t padding =
      args.Int(0, "width", 0) - static_cast<int64_t>(NumCharacters(self.bytes()));
  if (padding <= 0) return self;
  in.Charge(static_cast<size_t>(padding) * fill.size());
  // Python puts the odd one to the left when the width is odd.
  const int64_t both = padding / 2 + (padding & args.Int(0, "width", 0) & 1);
  const int64_t left = kLeft && kRight ? both : kLeft ? padding : 0;
  MarkedString out;
  for (int64_t i = 0; i < left; ++i) out.Append(fill);
  out.Append(self.AsString());
  for (int64_t i = left; i < padding; ++i) out.Append(fill);
  return in.NewString(std::move(out));
}

Value ZeroFill(In in, Self self, Args args) {
  args.CheckPositional("zfill", 1, 1);
  const MarkedString& text = self.AsString();
  const int64_t padding =
      args.Int(0, "width", 0) - static_cast<int64_t>(NumCharacters(text.bytes()));
  if (padding <= 0) return self;
  in.Charge(static_cast<size_t>(padding));
  const bool is_signed = text.bytes().starts_with('-') || text.bytes().starts_with('+');
  MarkedString out = text.Slice(0, is_signed ? 1 : 0);
  out.Append(std::string(static_cast<size_t>(padding), '0'));
  out.Append(text.Slice(is_signed ? 1 : 0, text.size()));
  return in.NewString(std::move(out));
}

Value ExpandTabs(In in, Self self, Args args) {
  args.Check("expandtabs", {"tabsize"});
  const int64_t tab_size = args.Int(0, "tabsize", 8);
  const MarkedString& text = self.AsString();
  MarkedString out;
  int64_t column = 0;
  for (size_t pos = 0; pos < text.size();) {
    const char c = text.bytes()[pos];
    const size_t next = pos + text::Utf8Size(c);
    if (c == '\t') {
      const int64_t spaces = tab_size > 0 ? tab_size - column % tab_size : 0;
      in.Charge(static_cast<size_t>(spaces));
      out.Append(std::string(static_cast<size_t>(spaces), ' '));
      column += spaces;
    } else {
      in.Charge(16 * text.marks().size());
      out.Append(text.Slice(pos, next));
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    pos = next;
  }
  return in.NewString(std::move(out));
}

/// True when the text is not empty and `is` holds for each character.
template <class Is>
Value AllOf(Self self, Args args, Is&& is) {
  args.CheckPositional("is...", 0, 0);
  const std::string& bytes = self.bytes();
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    if (!is(text::CodePointAt(bytes, pos))) return Value::Bool(false);
  }
  return Value::Bool(!bytes.empty());
}

bool IsDecimal(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND;
}

/// Unicode's Numeric_Type=Digit: superscripts, digits in circles and the like.
bool IsDigit(char32_t c) {
  static constexpr std::pair<char32_t, char32_t> kRanges[] = {
      {0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
      {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
      {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
      {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
      {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
  return IsDecimal(c) ||
         std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return range.first <= c && c <= range.second; });
}

Value IsDecimals(In /*in*/, Self self, Args args) { return AllOf(self, args, IsDecimal); }
Value IsDigits(In /*in*/, Self self, Args args) { return AllOf(self, args, IsDigit); }
Value IsNumbers(In /*in*/, Self self, Args args) { return AllOf(self, args, text::IsNumeric); }
Value IsLetters(In /*in*/, Self self, Args args) {
  return AllOf(self, args, [](char32_t c) { return IsAlphaNumeric(c) && !text::IsNumeric(c); });
}
Value IsAlphaNumerics(In /*in*/, Self self, Args args) { return AllOf(self, args, IsAlphaNumeric); }
Value IsSpaces(In /*in*/, Self self, Args args) { return AllOf(self, args, IsSpace); }

Value IsAscii(In /*in*/, Self self, Args args) {
  return Value::Bool(self.bytes().empty() ||
                     AllOf(self, args, [](char32_t c) { return c < 0x80; }).Truth());
}

Value IsPrintables(In /*in*/, Self self, Args args) {
  return Value::Bool(self.bytes().empty() || AllOf(self, args, IsPrintable).Truth());
}

Value IsIdentifier(In /*in*/, Self self, Args args) {
  const bool is_name =
      AllOf(self, args, [](char32_t c) { return c == '_' || IsAlphaNumeric(c); }).Truth();
  return Value::Bool(is_name && !text::IsNumeric(text::CodePointAt(self.bytes(), 0)));
}

/// isupper, islower: a letter of this case, and none of another.
template <bool kUpper>
Value IsCase(In /*in*/, Self self, Args args) {
  args.CheckPositional("isupper/islower", 0, 0);
  bool any = false;
  const std::string& bytes = self.bytes();
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    const char32_t c = text::CodePointAt(bytes, pos);
    const bool fits = kUpper ? IsUpperCase(c) : IsLowerCase(c);
    if (IsCased(c) && !fits) return Value::Bool(false);
    any = any || fits;
  }
  return Value::Bool(any);
}

Value IsTitle(In /*in*/, Self self, Args args) {
  args.CheckPositional("istitle", 0, 0);
  bool any = false;
  bool inside_word = false;
  const std::string& bytes = self.bytes();
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    const char32_t c = text::CodePointAt(bytes, pos);
    if (IsCased(c) && IsLowerCase(c) != inside_word) return Value::Bool(false);
    inside_word = IsCased(c);
    any = any || inside_word;
  }
  return Value::Bool(any);
}

Value Format(In in, Self self, Args args) {
  return in.NewString(FormatBraces(in, self.AsString(), args));
}

Value FormatMap(In in, Self self, Args args) {
  args.CheckPositional("format_map", 1, 1);
  CallArguments arguments;
  if (!args.positional[0].is_dict()) throw TemplateError("format_map() expects a dict");
  for (const auto& [key, value] : args.positional[0].AsDict().entries()) {
    if (key.is_string()) arguments.named.emplace_back(key.bytes(), value);
  }
  return in.NewString(FormatBraces(in, self.AsString(), arguments));
}

// ---- list ----

Value IndexOf(In in, Self self, Args args) {
  args.CheckPositional("index", 1, 1);
  const auto& items = self.AsList().items;
  in.Charge(items.size() * 16);
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equal(items[i], args.positional[0])) return Value::Int(static_cast<int64_t>(i));
  }
  throw TemplateError("index(): the value is not in the list");
}

Value CountItems(In in, Self self, Args args) {
  args.CheckPositional("count", 1, 1);
  const auto& items = self.AsList().items;
  in.Charge(items.size() * 16);
  return Value::Int(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return Equal(item, args.positional[0]);
  }));
}

Value CopyList(In in, Self self, Args args) {
  args.CheckPositional("copy", 0, 0);
  return in.NewList(self.AsList().items);
}

// ---- dict ----

Value Get(In /*in*/, Self self, Args args) {
  args.CheckPositional("get", 1, 2);
  if (const Value* value = self.AsDict().Find(args.positional[0])) return *value;
  return args.positional.size() > 1 ? args.positional[1] : Value::None();
}

Value Keys(In in, Self self, Args args) {
  args.CheckPositional("keys", 0, 0);
  return in.NewList(in.Iterate(self), List::Shape::kKeys);
}

Value Values(In in, Self self, Args args) {
  args.CheckPositional("values", 0, 0);
  std::vector<Value> values;
  for (const auto& [key, value] : self.AsDict().entries()) values.push_back(value);
  return in.NewList(std::move(values), List::Shape::kValues);
}

Value Items(In in, Self self, Args args) {
  args.CheckPositional("items", 0, 0);
  const Value items = in.Filter("items", self, args);
  items.AsList().shape = List::Shape::kItems;
  return items;
}

Value CopyDict(In in, Self self, Args args) {
  args.CheckPositional("copy", 0, 0);
  Dict* copy = in.heap().NewDict();
  in.Charge(self.AsDict().size() * 2 * sizeof(Value));
  for (const auto& [key, value] : self.AsDict().entries()) copy->Set(key, value);
  return Value::Of(copy);
}

using Table = std::unordered_map<std::string_view, FilterFunction>;

const Table& StringMethods() {
  static const Table table = {
      {"capitalize", Case<TextCase::kCapitalize>},
      {"casefold", Case<TextCase::kFolded>},
      {"center", Justify<true, true>},
      {"count", CountText},
      {"endswith", HasAffix<true>},
      {"expandtabs", ExpandTabs},
      {"find", Find<false, false>},
      {"format", Format},
      {"format_map", FormatMap},
      {"index", Find<false, true>},
      {"isalnum", IsAlphaNumerics},
      {"isalpha", IsLetters},
      {"isascii", IsAscii},
      {"isdecimal", IsDecimals},
      {"isdigit", IsDigits},
      {"isidentifier", IsIdentifier},
      {"islower", IsCase<false>},
      {"isnumeric", IsNumbers},
      {"isprintable", IsPrintables},
      {"isspace", IsSpaces},
      {"istitle", IsTitle},
      {"isupper", IsCase<true>},
      {"join", Join},
      {"ljust", Justify<false, true>},
      {"lower", Case<TextCase::kLower>},
      {"lstrip", Strip<true, false>},
      {"partition", Partition<false>},
      {"removeprefix", RemovePrefix},
      {"removesuffix", RemoveSuffix},
      {"replace", Replace},
      {"rfind", Find<true, false>},
      {"rindex", Find<true, true>},
      {"rjust", Justify<true, false>},
      {"rpartition", Partition<true>},
      {"rsplit", Split<true>},
      {"rstrip", Strip<false, true>},
      {"split", Split<false>},
      {"splitlines", Lines},
      {"startswith", HasAffix<false>},
      {"strip", Strip<true, true>},
      {"swapcase", Case<TextCase::kSwapped>},
      {"title", Case<TextCase::kTitle>},
      {"upper", Case<TextCase::kUpper>},
      {"zfill", ZeroFill},
  };
  return table;
}

const Table& ListMethods() {
  static const Table table = {{"copy", CopyList}, {"count", CountItems}, {"index", IndexOf}};
  return table;
}

const Table& TupleMethods() {
  static const Table table = {{"count", CountItems}, {"index", IndexOf}};
  return table;
}

const Table& DictMethods() {
  static const Table table = {
      {"copy", CopyDict}, {"get", Get}, {"items", Items}, {"keys", Keys}, {"values", Values},
  };
  return table;
}

const Table& MethodsOf(const Value& object) {
  static const Table none;
  if (object.is_string()) return StringMethods();
  if (object.is_dict()) return DictMethods();
  if (!object.is_list() || !object.AsList().is_indexed()) return none;
  return object.AsList().shape == List::Shape::kList ? ListMethods() : TupleMethods();
}

}  // namespace

FilterFunction FindMethod(const Value& object, std::string_view name) {
  const Table& table = MethodsOf(object);
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

bool IsMutator(const Value& object, std::string_view name) {
  static constexpr std::string_view kOfList[] = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"};
  static constexpr std::string_view kOfDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is_list() && object.AsList().shape == List::Shape::kList) {
    return std::find(std::begin(kOfList), std::end(kOfList), name) != std::end(kOfList);
  }
  return object.is_dict() &&
         std::find(std::begin(kOfDict), std::end(kOfDict), name) != std::end(kOfDict);
}

Value BindMethod(Interpreter& interpreter, const Value& object, std::string_view name,
                 FilterFunction function) {
  interpreter.Charge(sizeof(BoundMethod));
  return Value::Of(static_cast<Object*>(
      interpreter.heap().NewObject<BoundMethod>(object, std::string(name), function)));
}

}  // namespace gale::jinja
