// String operations that filters and methods share. They keep user marks where the bytes stay what
// they were; what is rewritten is marked as a whole when any of it was.
#include <fmt/format.h>
#include <utf8proc.h>

#include "text/jinja/builtins.h"
#include "text/jinja/case_mapping.h"
#include "text/utf8.h"

namespace gale::jinja {
bool IsSpace(char32_t c) { return text::IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

bool IsAlphaNumeric(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return true;
    default: return text::IsNumeric(c);
  }
}

std::vector<Line> SplitLines(std::string_view text) {
  std::vector<Line> lines;
  size_t begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = text::CodePointAt(text, pos);
    size_t next = pos + text::Utf8Size(text[pos]);
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (ends) {
      if (c == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back({begin, pos, next});
      begin = next;
    }
    pos = next;
  }
  if (begin < text.size()) lines.push_back({begin, text.size(), text.size()});
  return lines;
}

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

Value ChangeCase(Interpreter& interpreter, const Value& text, TextCase text_case) {
  const MarkedString source = ToText(text);
  const std::string_view bytes = source.bytes();
  std::string out;
  if (text_case == TextCase::kFolded) {
    out = CaseFold(bytes);
  } else {
    out.reserve(bytes.size());
    bool inside_word = false;
    for (size_t pos = 0; pos < bytes.size(); pos += text::Utf8Size(bytes[pos])) {
      const char32_t c = text::CodePointAt(bytes, pos);
      LetterCase letter_case = LetterCase::kLower;
      switch (text_case) {
        case TextCase::kUpper: letter_case = LetterCase::kUpper; break;
        case TextCase::kCapitalize:
          if (pos == 0) letter_case = LetterCase::kTitle;
          break;
        case TextCase::kSwapped:
          if (!IsUpperCase(c)) letter_case = LetterCase::kUpper;
          break;
        case TextCase::kTitle:
          if (!inside_word) letter_case = LetterCase::kTitle;
          inside_word = IsCased(c);
          break;
        case TextCase::kTitleWords:
          if (!inside_word) letter_case = LetterCase::kUpper;
          inside_word =
              !IsSpace(c) && std::u32string_view(U"-({[<").find(c) == std::u32string_view::npos;
          break;
        case TextCase::kLower:
        case TextCase::kFolded: break;
      }
      AppendInCase(bytes, pos, letter_case, &out);
    }
  }
  return interpreter.NewString(source.is_marked() ? MarkedString::User(std::move(out))
                                                  : MarkedString(std::move(out)));
}

}  // namespace gale::jinja
