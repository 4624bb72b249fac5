// The filters of `x | ...` on text, after Jinja's own (jinja.palletsprojects.com/templates).
#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "text/jinja/arithmetic.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Args = const CallArguments&;

Value Trim(In in, Self self, Args args) {
  args.Check("trim", {"chars"});
  return StripText(in, self, args.Get(0, "chars"), true, true);
}

template <TextCase kCase>
Value Case(In in, Self self, Args args) {
  args.CheckPositional("case", 0, 0);
  return ChangeCase(in, self, kCase);
}

Value Replace(In in, Self self, Args args) {
  args.Check("replace", {"old", "new", "count"}, 2);
  const Value count = args.Get(2, "count");
  return ReplaceText(in, self, args.Get(0, "old"), args.Get(1, "new"),
                     count.is_integral() ? count.AsInt() : -1);
}

Value Indent(In in, Self self, Args args) {
  args.Check("indent", {"width", "first", "blank"});
  ExpectString(self, "indent");
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
  // With it a line break at the end of the text begins one more line, as in Jinja.
  MarkedString text = ToText(self);
  text.Append("\n");
  MarkedString out;
  size_t number = 0;
  for (const Line& line : SplitLines(text.bytes())) {
    const bool indents = number == 0 ? first : blank || line.end > line.begin;
    in.Charge(indention.size() + 16 * text.marks().size());
    if (number > 0) out.Append("\n");
    if (indents) out.Append(indention);
    out.Append(text.Slice(line.begin, line.end));
    ++number;
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

Value Format(In in, Self self, Args args) {
  if (!args.positional.empty() && !args.named.empty()) {
    throw TemplateError("can't handle positional and keyword arguments at the same time");
  }
  Value argument = in.NewList(args.positional, List::Shape::kTuple);
  if (!args.named.empty()) {
    Dict* dict = in.heap().NewDict();
    for (const auto& [name, value] : args.named) dict->Set(Value::String(name), value);
    argument = Value::Of(dict);
  }
  return in.NewString(FormatPercent(in, ToText(self), argument));
}

/// Runs of letters, digits and "_".
Value WordCount(In in, Self self, Args args) {
  args.CheckPositional("wordcount", 0, 0);
  const MarkedString text = ToText(self);
  const std::string& bytes = text.bytes();
  in.Charge(bytes.size());
  int64_t count = 0;
  bool inside = false;
  for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
    const char32_t c = text::CodePointAt(bytes, pos);
    const bool is_word = c == '_' || IsAlphaNumeric(c);
    count += is_word && !inside ? 1 : 0;
    inside = is_word;
  }
  return Value::Int(count);
}

Value Center(In in, Self self, Args args) {
  args.Check("center", {"width"});
  CallArguments width;
  width.positional = {Value::Int(args.Int(0, "width", 80))};
  return FindMethod(Value::String(""), "center")(in, Value::String(ToText(self)), width);
}

Value Truncate(In in, Self self, Args args) {
  args.Check("truncate", {"length", "killwords", "end", "leeway"});
  const int64_t size = in.Filter("length", self, {}).AsInt();
  const int64_t length = args.Int(0, "length", 255);
  const Value end = args.Has(2, "end") ? args.Get(2, "end") : Value::String("...");
  const auto end_size = static_cast<int64_t>(NumCharacters(ExpectString(end, "truncate").bytes()));
  const Value leeway = args.Get(3, "leeway");
  const int64_t slack = leeway.is_none() || leeway.is_undefined() ? 5 : leeway.AsInt();
  if (length < end_size) throw TemplateError(fmt::format("expected length >= {}", end_size));
  if (slack < 0) throw TemplateError("expected leeway >= 0");
  if (size <= length + slack) return self;
  const Value text = Value::String(ExpectString(self, "truncate"));
  const Value kept = Slice(in, text, Value(), Value::Int(length - end_size), Value());
  const size_t cut = args.Bool(1, "killwords", false) ? std::string::npos : kept.bytes().rfind(' ');
  MarkedString out = kept.AsString().Slice(0, std::min(cut, kept.bytes().size()));
  out.Append(end.AsString());
  return in.NewString(std::move(out));
}

Value FileSize(In in, Self self, Args args) {
  args.Check("filesizeformat", {"binary"});
  CallArguments fallback;
  fallback.positional = {Value::None()};
  const Value number = in.Filter("float", self, fallback);
  if (!number.is_float()) throw TemplateError("filesizeformat: expected a number");
  const double bytes = number.AsFloat();
  const bool binary = args.Bool(0, "binary", false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return in.NewString("1 Byte");
  if (bytes < base) return in.NewString(fmt::format("{} Bytes", std::trunc(bytes)));
  double unit = base;
  std::string_view prefixes = "kMGTPEZY";
  if (binary) prefixes = "KMGTPEZY";
  size_t i = 0;
  while (i + 1 < prefixes.size() && bytes >= unit * base) {
    unit *= base;
    ++i;
  }
  return in.NewString(fmt::format("{:.1f} {}{}B", bytes / unit, prefixes[i], binary ? "i" : ""));
}

/// Percent-encoding of UTF-8; inside of a query "/" too, and a space as "+".
void AppendUrl(const std::string& bytes, bool in_query, std::string* out) {
  for (const char c : bytes) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       (c == '/' && !in_query);
    if (plain) {
      out->push_back(c);
    } else if (c == ' ' && in_query) {
      out->push_back('+');
    } else {
      *out += fmt::format("%{:02X}", static_cast<uint8_t>(c));
    }
  }
}

Value UrlEncode(In in, Self self, Args args) {
  args.CheckPositional("urlencode", 0, 0);
  std::string out;
  if (self.is_string() || !(self.is_list() || self.is_dict() || self.is_undefined())) {
    AppendUrl(ToText(self).bytes(), false, &out);
  } else {
    const Value pairs = self.is_dict() ? in.Filter("items", self, {}) : self;
    for (const Value& pair : in.Iterate(pairs)) {
      const std::vector<Value> parts = in.Iterate(pair);
      if (parts.size() != 2) throw TemplateError("urlencode: expected pairs");
      if (!out.empty()) out.push_back('&');
      AppendUrl(ToText(parts[0]).bytes(), true, &out);
      out.push_back('=');
      AppendUrl(ToText(parts[1]).bytes(), true, &out);
    }
  }
  return in.NewString(MarkedString::User(std::move(out)));
}

Value XmlAttributes(In in, Self self, Args args) {
  args.Check("xmlattr", {"autospace"});
  if (!self.is_dict()) throw TemplateError("xmlattr: expected a dict");
  MarkedString out;
  for (const auto& [key, value] : self.AsDict().entries()) {
    if (value.is_none() || value.is_undefined()) continue;
    if (ExpectString(key, "xmlattr").bytes().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      throw TemplateError(
          fmt::format("Invalid character in attribute name: {}", Repr(key).bytes()));
    }
    if (out.size() > 0 || args.Bool(0, "autospace", true)) out.Append(" ");
    out.Append(Escape(in, key, {}).AsString());
    out.Append("=\"");
    out.Append(Escape(in, value, {}).AsString());
    out.Append("\"");
  }
  return in.NewString(std::move(out));
}

Value ToString(In in, Self self, Args args) {
  args.CheckPositional("string", 0, 0);
  return self.is_string() ? self : in.NewString(ToText(self));
}

}  // namespace

const FilterTable& StringFilters() {
  static const FilterTable table = {
      {"capitalize", Case<TextCase::kCapitalize>},
      {"center", Center},
      {"e", Escape},
      {"escape", Escape},
      {"filesizeformat", FileSize},
      {"forceescape", Escape},
      {"format", Format},
      {"indent", Indent},
      {"lower", Case<TextCase::kLower>},
      {"replace", Replace},
      {"safe", ToString},
      {"string", ToString},
      {"title", Case<TextCase::kTitleWords>},
      {"trim", Trim},
      {"truncate", Truncate},
      {"upper", Case<TextCase::kUpper>},
      {"urlencode", UrlEncode},
      {"wordcount", WordCount},
      {"xmlattr", XmlAttributes},
  };
  return table;
}

}  // namespace gale::jinja
