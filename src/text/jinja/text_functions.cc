// String operations that filters and methods share. They keep user marks where the bytes stay what
// they were; what is rewritten is marked as a whole when any of it was.
#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/builtins.h"
#include "text/utf8.h"

namespace gale::jinja {
namespace {

bool IsSpace(char32_t c) { return text::IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsCased(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL ||
         category == UTF8PROC_CATEGORY_LT;
}

char32_t MapCase(char32_t c, bool upper) {
  const auto code = static_cast<utf8proc_int32_t>(c);
  return static_cast<char32_t>(upper ? utf8proc_toupper(code) : utf8proc_tolower(code));
}

}  // namespace

const MarkedString& ExpectString(const Value& value, std::string_view what) {
  if (value.is_string()) return value.AsString();
  if (value.is_undefined()) throw TemplateError(value.UndefinedWhat());
  throw TemplateError(fmt::format("{}: expected a string, got '{}'", what, value.TypeName()));
}

Value StripText(Interpreter& interpreter, const Value& text, const Value& characters, bool left,
                bool right) {
  const MarkedString source = ToText(text);
  const std::string_view bytes = source.bytes();
  const bool white_space = !characters.is_string();
  const auto strips = [&](std::string_view character) {
    return white_space ? IsSpace(text::DecodeUtf8(character).code_point)
                       : characters.bytes().find(character) != std::string::npos;
  };
  size_t begin = 0;
  size_t end = bytes.size();
  while (left && begin < end) {
    const size_t size = text::Utf8Size(bytes[begin]);
    if (!strips(bytes.substr(begin, size))) break;
    begin += size;
  }
  while (right && begin < end) {
    size_t previous = end - 1;
    while ((static_cast<uint8_t>(bytes[previous]) & 0xC0) == 0x80) --previous;
    if (!strips(bytes.substr(previous, end - previous))) break;
    end = previous;
  }
  return interpreter.NewString(source.Slice(begin, end));
}

Value ReplaceText(Interpreter& interpreter, const Value& text, const Value& from, const Value& to,
                  int64_t max_count) {
  const MarkedString source = ToText(text);
  const MarkedString old = ToText(from);
  const MarkedString fresh = ToText(to);
  MarkedString result;
  size_t done = 0;
  size_t pos = 0;
  size_t num_pieces = 0;
  const auto put = [&](size_t at) {
    // Cutting looks at every mark.
    interpreter.Charge(fresh.size() + 16 * source.marks().size());
    result.Append(source.Slice(done, at));
    result.Append(fresh);
    ++num_pieces;
  };
  const auto wanted = max_count < 0 ? SIZE_MAX : static_cast<size_t>(max_count);
  if (old.size() == 0) {
    // Python puts the replacement before each character and at the end.
    while (num_pieces < wanted) {
      put(pos);
      done = pos;
      if (pos == source.size()) break;
      pos += text::Utf8Size(source.bytes()[pos]);
    }
  } else {
    while (num_pieces < wanted &&
           (pos = source.bytes().find(old.bytes(), done)) != std::string::npos) {
      put(pos);
      done = pos + old.size();
    }
  }
  result.Append(source.Slice(done, source.size()));
  return interpreter.NewString(std::move(result));
}

Value JoinText(Interpreter& interpreter, const std::vector<Value>& items,
               const MarkedString& between) {
  MarkedString result;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) result.Append(between);
    const MarkedString part = ToText(items[i]);
    interpreter.Charge(part.size() + between.size());
    result.Append(part);
  }
  return interpreter.NewString(std::move(result));
}

Value ChangeCase(Interpreter& interpreter, const Value& text, LetterCase letter_case) {
  const MarkedString source = ToText(text);
  const std::string_view bytes = source.bytes();
  std::string out;
  out.reserve(bytes.size());
  bool inside_word = false;
  for (size_t pos = 0; pos < bytes.size();) {
    const text::Utf8Char c = text::DecodeUtf8(bytes.substr(pos));
    const bool upper =
        letter_case == LetterCase::kUpper ||
        ((letter_case == LetterCase::kTitle || letter_case == LetterCase::kTitleWords) &&
         !inside_word) ||
        (letter_case == LetterCase::kCapitalize && pos == 0);
    text::AppendUtf8(MapCase(c.code_point, upper), &out);
    inside_word = letter_case == LetterCase::kTitle
                      ? IsCased(c.code_point)
                      : !IsSpace(c.code_point) &&
                            std::string_view("-({[<").find(bytes[pos]) == std::string_view::npos;
    pos += c.size;
  }
  return interpreter.NewString(source.is_marked() ? MarkedString::User(std::move(out))
                                                  : MarkedString(std::move(out)));
}

}  // namespace gale::jinja
