#include "text/jinja/lexer.h"

#include <array>

#include <fmt/format.h>

#include "text/utf8.h"

namespace gale::jinja {
namespace {

constexpr std::array<std::string_view, 28> kOperators = {
    // Longer ones first, so that the first that fits is the right one.
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
    "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";", "!", "&"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsHexDigit(char c) { return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<uint8_t>(c) >= 0x80;
}
bool IsNameCharacter(char c) { return IsNameStart(c) || IsDigit(c); }

/// Python's universal newlines, less the one that ends the source.
std::string NormalizeNewlines(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      result.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      result.push_back(source[i]);
    }
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  std::vector<Token> Run() {
    while (pos_ < source_.size()) {
      const size_t tag = FindTag(pos_);
      const size_t data_begin = pos_;
      if (tag == std::string::npos) {
        AddData(data_begin, source_.size());
        Advance(source_.size());
        break;
      }
      AddData(data_begin, DataEnd(data_begin, tag));
      Advance(tag);
      LexTag();
    }
    Add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& message) const {
    throw TemplateError(message, position_);
  }

  std::string_view Rest() const { return std::string_view(source_).substr(pos_); }
  bool At(std::string_view text) const { return Rest().starts_with(text); }

  void Advance(size_t to) {
    for (; pos_ < to; ++pos_) {
      if (source_[pos_] == '\n') {
        ++position_.line;
        position_.column = 1;
      } else if ((static_cast<uint8_t>(source_[pos_]) & 0xC0) != 0x80) {
        ++position_.column;
      }
    }
  }

  void Add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), position_});
  }

  void AddData(size_t begin, size_t end) {
    if (begin < end) Add(Token::Kind::kData, source_.substr(begin, end - begin));
  }

  size_t FindTag(size_t from) const {
    for (size_t pos = from; (pos = source_.find('{', pos)) != std::string::npos; ++pos) {
      const char next = pos + 1 < source_.size() ? source_[pos + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return pos;
    }
    return std::string::npos;
  }

  /// Where the text before a tag ends once "-" or lstrip_blocks has taken its white space.
  size_t DataEnd(size_t begin, size_t tag) const {
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (sign == '-') return SkipSpaceBack(begin, tag);
    if (sign == '+' || source_[tag + 1] == '{') return tag;
    const size_t newline = tag == begin ? std::string::npos : source_.rfind('\n', tag - 1);
    const bool line_found = newline != std::string::npos && newline >= begin;
    if (!line_found && !line_starting_) return tag;
    const size_t line = line_found ? newline + 1 : begin;
    return SkipSpaceBack(line, tag) == line ? line : tag;
  }

  size_t SkipSpaceBack(size_t limit, size_t pos) const {
    while (pos > limit) {
      size_t previous = pos - 1;
      while (previous > limit && (static_cast<uint8_t>(source_[previous]) & 0xC0) == 0x80) {
        --previous;
      }
      if (!IsSpaceAt(previous)) break;
      pos = previous;
    }
    return pos;
  }

  size_t SkipSpace(size_t pos) const {
    while (pos < source_.size() && IsSpaceAt(pos)) pos += text::Utf8Size(source_[pos]);
    return pos;
  }

  bool IsSpaceAt(size_t pos) const {
    const char32_t c = text::CodePointAt(source_, pos);
    return text::IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F);  // as Python's str.isspace
  }

  void LexTag() {
    if (At("{#")) {
      LexComment();
    } else if (At("{{")) {
      LexExpressionTag(Token::Kind::kVariableBegin, Token::Kind::kVariableEnd, "}}");
    } else if (const size_t raw = RawBodyBegin(); raw != std::string::npos) {
      LexRaw(raw);
    } else {
      LexExpressionTag(Token::Kind::kBlockBegin, Token::Kind::kBlockEnd, "%}");
    }
  }

  /// Steps over the end of a tag and the white space that it takes along.
  void FinishTag(std::string_view end, bool trims_newline) {
    const size_t before = pos_;
    if (At("-")) {
      Advance(SkipSpace(pos_ + 1 + end.size()));
    } else if (At("+")) {
      Advance(pos_ + 1 + end.size());
    } else {
      size_t to = pos_ + end.size();
      if (trims_newline && to < source_.size() && source_[to] == '\n') ++to;
      Advance(to);
    }
    line_starting_ = pos_ > before && source_[pos_ - 1] == '\n';
  }

  void LexComment() {
    const size_t end = source_.find("#}", pos_ + 2);
    if (end == std::string::npos) Fail("the comment is not closed: expected \"#}\"");
    const char sign = end > pos_ + 2 ? source_[end - 1] : '\0';
    Advance(sign == '-' || sign == '+' ? end - 1 : end);
    FinishTag("#}", /*trims_newline=*/true);
  }

  /// Where the text of {% raw %} begins, or npos when the tag is another.
  size_t RawBodyBegin() const {
    size_t pos = pos_ + 2;
    if (pos < source_.size() && (source_[pos] == '-' || source_[pos] == '+')) ++pos;
    pos = SkipSpace(pos);
    if (source_.compare(pos, 3, "raw") != 0) return std::string::npos;
    pos = SkipSpace(pos + 3);
    const bool strips = source_.compare(pos, 3, "-%}") == 0;
    if (!strips && source_.compare(pos, 2, "%}") != 0) return std::string::npos;
    return strips ? SkipSpace(pos + 3) : pos + 2;
  }

  void LexRaw(size_t body) {
    const Position start = position_;
    for (size_t tag = body; (tag = source_.find("{%", tag)) != std::string::npos; tag += 2) {
      size_t pos = tag + 2;
      const char sign = pos < source_.size() ? source_[pos] : '\0';
      if (sign == '-' || sign == '+') ++pos;
      pos = SkipSpace(pos);
      if (source_.compare(pos, 6, "endraw") != 0) continue;
      pos = SkipSpace(pos + 6);
      const std::string_view rest = std::string_view(source_).substr(pos);
      if (!rest.starts_with("%}") && !rest.starts_with("-%}") && !rest.starts_with("+%}")) continue;
      line_starting_ = body > 0 && source_[body - 1] == '\n';
      Advance(body);
      AddData(body, DataEnd(body, tag));
      Advance(pos);
      FinishTag("%}", /*trims_newline=*/true);
      return;
    }
    throw TemplateError("{% raw %} is not closed: expected {% endraw %}", start);
  }

  void LexExpressionTag(Token::Kind begin, Token::Kind end, std::string_view end_text) {
    Add(begin, "");
    const bool signed_tag =
        pos_ + 2 < source_.size() && (source_[pos_ + 2] == '-' || source_[pos_ + 2] == '+');
    Advance(pos_ + (signed_tag ? 3 : 2));
    std::string open;  // brackets, so that "}}" inside a dict does not end the tag
    const bool is_block = end == Token::Kind::kBlockEnd;
    while (true) {
      Advance(SkipSpace(pos_));
      if (pos_ == source_.size())
        Fail(fmt::format("the tag is not closed: expected \"{}\"", end_text));
      const bool ends = At(end_text) || (At("-") && Rest().substr(1).starts_with(end_text)) ||
                        (is_block && At("+") && Rest().substr(1).starts_with(end_text));
      if (open.empty() && ends) break;
      LexToken(&open);
    }
    Add(end, "");
    FinishTag(end_text, /*trims_newline=*/is_block);
  }

  void LexToken(std::string* open) {
    const char c = source_[pos_];
    if (IsDigit(c)) return LexNumber();
    if (IsNameStart(c)) {
      size_t end = pos_;
      while (end < source_.size() && IsNameCharacter(source_[end])) ++end;
      return Take(Token::Kind::kName, end);
    }
    if (c == '\'' || c == '"') return LexString(c);
    for (const std::string_view op : kOperators) {
      if (!At(op)) continue;
      Balance(op[0], open);
      return Take(Token::Kind::kOperator, pos_ + op.size());
    }
    Fail(fmt::format("unexpected character \"{}\"", Rest().substr(0, text::Utf8Size(c))));
  }

  void Take(Token::Kind kind, size_t end) {
    Add(kind, source_.substr(pos_, end - pos_));
    Advance(end);
  }

  void Balance(char op, std::string* open) const {
    if (op == '(') open->push_back(')');
    if (op == '[') open->push_back(']');
    if (op == '{') open->push_back('}');
    if (op != ')' && op != ']' && op != '}') return;
    if (open->empty()) Fail(fmt::format("unexpected \"{}\"", op));
    if (open->back() != op) Fail(fmt::format("expected \"{}\", got \"{}\"", open->back(), op));
    open->pop_back();
  }

  /// Integers and floats, with Python's "_" between digits; 0x, 0o and 0b in front of integers.
  void LexNumber() {
    const char letter = source_[pos_] == '0' && pos_ + 1 < source_.size()
                            ? static_cast<char>(source_[pos_ + 1] | 0x20)
                            : '\0';
    if (letter == 'x' || letter == 'o' || letter == 'b') {
      size_t prefixed_end = pos_ + 2;
      while (prefixed_end < source_.size() &&
             (IsHexDigit(source_[prefixed_end]) || source_[prefixed_end] == '_')) {
        ++prefixed_end;
      }
      return Take(Token::Kind::kInteger, prefixed_end);
    }
    std::string digits;
    size_t end = pos_;
    const auto take_digits = [&] {
      while (end < source_.size() && (IsDigit(source_[end]) || source_[end] == '_')) {
        if (source_[end] != '_') digits.push_back(source_[end]);
        ++end;
      }
    };
    const auto digit_at = [&](size_t pos) { return pos < source_.size() && IsDigit(source_[pos]); };
    take_digits();
    Token::Kind kind = Token::Kind::kInteger;
    // "x.0.1" is two subscripts, so a number behind a dot has no fraction.
    const bool behind_dot = pos_ > 0 && source_[pos_ - 1] == '.';
    if (!behind_dot && end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
      kind = Token::Kind::kFloat;
      digits.push_back('.');
      ++end;
      take_digits();
    }
    if (!behind_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const bool sign =
          end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-');
      if (digit_at(end + (sign ? 2 : 1))) {
        kind = Token::Kind::kFloat;
        digits += source_.substr(end, sign ? 2 : 1);
        end += sign ? 2 : 1;
        take_digits();
      }
    }
    Add(kind, digits);
    Advance(end);
  }

  void LexString(char quote) {
    std::string value;
    size_t pos = pos_ + 1;
    while (pos < source_.size() && source_[pos] != quote) {
      if (source_[pos] == '\\' && pos + 1 < source_.size()) {
        pos = LexEscape(pos + 1, &value);
      } else {
        value.push_back(source_[pos++]);
      }
    }
    if (pos >= source_.size()) Fail("the string is not closed");
    Add(Token::Kind::kString, std::move(value));
    Advance(pos + 1);
  }

  /// Python's escapes; `pos` is behind the backslash. Returns the position after.
  size_t LexEscape(size_t pos, std::string* value) const {
    const char c = source_[pos];
    switch (c) {
      case '\n': return pos + 1;
      case '\\':
      case '\'':
      case '"': value->push_back(c); return pos + 1;
      case 'a': value->push_back('\a'); return pos + 1;
      case 'b': value->push_back('\b'); return pos + 1;
      case 'f': value->push_back('\f'); return pos + 1;
      case 'n': value->push_back('\n'); return pos + 1;
      case 'r': value->push_back('\r'); return pos + 1;
      case 't': value->push_back('\t'); return pos + 1;
      case 'v': value->push_back('\v'); return pos + 1;
      case 'x': return LexHex(pos + 1, 2, value);
      case 'u': return LexHex(pos + 1, 4, value);
      case 'U': return LexHex(pos + 1, 8, value);
      default: break;
    }
    if (c >= '0' && c <= '7') {
      char32_t code = 0;
      const size_t limit = pos + 3;
      for (; pos < limit && pos < source_.size() && source_[pos] >= '0' && source_[pos] <= '7';
           ++pos) {
        code = code * 8 + static_cast<char32_t>(source_[pos] - '0');
      }
      text::AppendUtf8(code, value);
      return pos;
    }
    value->push_back('\\');
    return pos;
  }

  size_t LexHex(size_t pos, size_t digits, std::string* value) const {
    char32_t code = 0;
    for (size_t i = 0; i < digits; ++i) {
      const char c = pos + i < source_.size() ? source_[pos + i] : '\0';
      const int digit = IsDigit(c)             ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0)
        Fail(fmt::format("the string has an escape without its {} hex digits", digits));
      code = code << 4 | static_cast<char32_t>(digit);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
      Fail("the string has an escape that is no character");
    }
    text::AppendUtf8(code, value);
    return pos + digits;
  }

  std::string source_;
  size_t pos_ = 0;
  Position position_{1, 1};
  bool line_starting_ = true;  ///< the text from pos_ on begins a line
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace gale::jinja
