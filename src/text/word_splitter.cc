#include "text/word_splitter.h"

#include "text/utf8.h"

namespace gale::text {
namespace {

struct Char {
  CharClass kind;
  uint8_t size;
};

/// Walks over classes of characters in valid UTF-8.
class Scanner {
 public:
  Scanner(const CharClassTable& classes, std::string_view text) : classes_(classes), text_(text) {}

  bool AtEnd(size_t pos) const { return pos >= text_.size(); }

  Char At(size_t pos) const {
    const auto lead = static_cast<uint8_t>(text_[pos]);
    if (lead < 0x80) return {classes_.OfAscii(lead), 1};
    const auto low = [&](size_t i) {
      return static_cast<char32_t>(static_cast<uint8_t>(text_[pos + i]) & 0x3F);
    };
    if (lead < 0xE0) return {classes_[(lead & 0x1Fu) << 6 | low(1)], 2};
    if (lead < 0xF0) return {classes_[(lead & 0x0Fu) << 12 | low(1) << 6 | low(2)], 3};
    return {classes_[(lead & 0x07u) << 18 | low(1) << 12 | low(2) << 6 | low(3)], 4};
  }

  bool Is(CharClass kind, size_t pos) const { return !AtEnd(pos) && At(pos).kind == kind; }

  /// The end of the run of `kind` at `pos`, at most `limit` characters long.
  size_t EndOfRun(CharClass kind, size_t pos, size_t limit = ~size_t{0}) const {
    for (; limit > 0 && !AtEnd(pos); --limit) {
      const Char c = At(pos);
      if (c.kind != kind) break;
      pos += c.size;
    }
    return pos;
  }

  bool IsLineEnd(size_t pos) const {
    return !AtEnd(pos) && (text_[pos] == '\n' || text_[pos] == '\r');
  }

  /// \s+(?!\S)|\s+ at white space: all of it at the end of the text; else without its last
  /// character, unless it is the only one.
  size_t EndOfSpaces(size_t begin) const {
    size_t end = begin;
    size_t last = begin;
    while (!AtEnd(end)) {
      const Char c = At(end);
      if (c.kind != CharClass::kSpace) return last > begin ? last : end;
      last = end;
      end += c.size;
    }
    return end;
  }

  /// \s*[\r\n]+ at white space: up to its last line end; `begin` when it has none.
  size_t EndOfLines(size_t begin) const {
    size_t end = begin;
    for (size_t pos = begin; !AtEnd(pos);) {
      const Char c = At(pos);
      if (c.kind != CharClass::kSpace) break;
      if (IsLineEnd(pos)) end = pos + 1;
      pos += c.size;
    }
    return end;
  }

  /// 's|'t|'re|'ve|'m|'ll|'d at an apostrophe, in any case or in lower case; `begin` when there is
  /// none. U+017F is an s in any case.
  size_t EndOfContraction(size_t begin, bool any_case) const {
    const auto letter = [&](size_t i) {
      if (AtEnd(begin + i)) return '\0';
      const char c = text_[begin + i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    switch (letter(1)) {
      case 's':
      case 't':
      case 'm':
      case 'd': return begin + 2;
      case 'r':
      case 'v': return letter(2) == 'e' ? begin + 3 : begin;
      case 'l': return letter(2) == 'l' ? begin + 3 : begin;
      default: break;
    }
    const bool long_s = any_case && text_.substr(begin + 1).starts_with("\xC5\xBF");
    return long_s ? begin + 3 : begin;
  }

 private:
  const CharClassTable& classes_;
  std::string_view text_;
};

}  // namespace

std::optional<WordSplitter> WordSplitter::For(std::string_view expression) {
  if (expression == kGpt2Expression) return WordSplitter(Kind::kGpt2);
  if (expression == kLlama3Expression) return WordSplitter(Kind::kLlama3);
  if (expression == kQwen2Expression) return WordSplitter(Kind::kQwen2);
  return std::nullopt;
}

size_t WordSplitter::EndOfGpt2Match(std::string_view text, size_t begin) const {
  const Scanner scan(*classes_, text);
  if (text[begin] == '\'') {
    const size_t end = scan.EndOfContraction(begin, /*any_case=*/false);
    if (end > begin) return end;
  }
  const size_t word = begin + (text[begin] == ' ' ? 1 : 0);
  if (scan.AtEnd(word)) return word;
  const Char first = scan.At(word);
  if (first.kind == CharClass::kSpace) return scan.EndOfSpaces(begin);
  return scan.EndOfRun(first.kind, word + first.size);
}

size_t WordSplitter::EndOfLlama3Match(std::string_view text, size_t begin) const {
  const Scanner scan(*classes_, text);
  const Char first = scan.At(begin);
  const size_t second = begin + first.size;
  if (first.kind == CharClass::kLetter) return scan.EndOfRun(CharClass::kLetter, second);
  if (first.kind == CharClass::kNumber) {
    return kind_ == Kind::kQwen2 ? second : scan.EndOfRun(CharClass::kNumber, second, 2);
  }
  if (text[begin] == '\'') {
    const size_t end = scan.EndOfContraction(begin, /*any_case=*/true);
    if (end > begin) return end;
  }
  if (!scan.IsLineEnd(begin) && scan.Is(CharClass::kLetter, second)) {
    return scan.EndOfRun(CharClass::kLetter, second);
  }
  if (first.kind == CharClass::kOther ||
      (text[begin] == ' ' && scan.Is(CharClass::kOther, second))) {
    size_t end = scan.EndOfRun(CharClass::kOther, second);
    while (scan.IsLineEnd(end)) ++end;
    return end;
  }
  const size_t lines = scan.EndOfLines(begin);
  return lines > begin ? lines : scan.EndOfSpaces(begin);
}

size_t WordSplitter::SafeCut(std::string_view text, size_t from) {
  const Scanner scan(CharClassTable::Get(), text);
  size_t pos = from;
  while (pos < text.size() && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) ++pos;
  bool after_letter = false;
  while (pos < text.size()) {
    const Char c = scan.At(pos);
    const bool is_letter = c.kind == CharClass::kLetter;
    if (after_letter && !is_letter) return pos;
    after_letter = is_letter;
    pos += c.size;
  }
  return text.size();
}

}  // namespace gale::text
