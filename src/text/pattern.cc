#include "text/pattern.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/check.h"
#include "base/status_macros.h"
#include "text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace gale::text {
namespace {

constexpr size_t kMaxPatternBytes = 1 << 16;
// PCRE2 allows ten million steps per match by default; the patterns of the field need a few.
constexpr uint32_t kMatchLimit = 1'000'000;

/// Match data is per thread and cheap to keep; patterns have at most a handful of groups, and only
/// the whole match is read.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  MatchScratch() { pcre2_set_match_limit(context, kMatchLimit); }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
};

MatchScratch& ThreadScratch() {
  thread_local MatchScratch scratch;
  return scratch;
}

/// PCRE2 counts U+180E as space, Oniguruma and Unicode do not. Its neighbour in kind, U+200B, has
/// the same size and category and is space to neither.
std::string WithoutMongolianVowelSeparator(std::string_view text) {
  std::string copy(text);
  for (size_t pos = 0; (pos = copy.find("\xE1\xA0\x8E", pos)) != std::string::npos; pos += 3) {
    copy.replace(pos, 3, "\xE2\x80\x8B");
  }
  return copy;
}

/// \w of Oniguruma also takes marks, connectors and enclosed letters, and no joiners; PCRE2 has its
/// own idea. Outside of classes both \w and \W take the numbers of Latin-1 that are no digits. \W
/// inside a class is left alone: it has no spelling there.
std::string WithOnigurumaWords(std::string_view expression) {
  constexpr std::string_view kWord = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9})"
                                     R"(\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";
  constexpr std::string_view kLatinNumbers = R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    const char next = i + 1 < expression.size() ? expression[i + 1] : '\0';
    if (c == '\\' && next == 'w') {
      out += in_class ? std::string(kWord) : fmt::format("[{}{}]", kWord, kLatinNumbers);
      ++i;
    } else if (c == '\\' && next == 'W' && !in_class) {
      out += fmt::format("[^{}]", kWord);
      ++i;
    } else if (c == '\\' && next != '\0') {
      out += c;
      out += next;
      ++i;
    } else {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      out += c;
    }
  }
  return out;
}

void Append(size_t begin, size_t end, bool is_match, size_t offset,
            std::vector<Segment>* segments) {
  if (begin < end) segments->push_back({begin + offset, end + offset, is_match});
}

void SplitLiteral(std::string_view literal, std::string_view text, size_t offset,
                  std::vector<Segment>* segments) {
  size_t done = 0;
  for (size_t pos = 0; (pos = text.find(literal, done)) != std::string_view::npos;) {
    Append(done, pos, false, offset, segments);
    done = pos + literal.size();
    Append(pos, done, true, offset, segments);
  }
  Append(done, text.size(), false, offset, segments);
}

void SplitRegex(const pcre2_code& code, std::string_view text, size_t offset,
                std::vector<Segment>* segments) {
  const MatchScratch& scratch = ThreadScratch();
  const PCRE2_SIZE* match = pcre2_get_ovector_pointer(scratch.data);
  size_t done = 0;
  for (size_t start = 0; start <= text.size();) {
    const int found = pcre2_match(&code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  start, PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
    if (found < 0) break;
    // \K in a lookahead can put the end of a match before its begin or the last match.
    const size_t begin = std::max<size_t>(match[0], done);
    const size_t end = std::max<size_t>(match[1], begin);
    Append(done, begin, false, offset, segments);
    Append(begin, end, true, offset, segments);
    done = end;
    start = end > start ? end : start + (start < text.size() ? Utf8Size(text[start]) : 1);
  }
  Append(done, text.size(), false, offset, segments);
}

}  // namespace

Result<Pattern> Pattern::Parse(const JsonValue& value) {
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  if (const auto literal = object.Find("String")) {
    GALE_ASSIGN_OR_RETURN(const std::string_view text, literal->String());
    Result<Pattern> pattern = Literal(text);
    if (!pattern) return tl::unexpected(literal->Wrong(pattern.error().message));
    return pattern;
  }
  GALE_ASSIGN_OR_RETURN(const JsonValue regex, object.Get("Regex"));
  GALE_ASSIGN_OR_RETURN(const std::string_view expression, regex.String());
  Result<Pattern> pattern = Regex(expression);
  if (!pattern) return tl::unexpected(regex.Wrong(pattern.error().message));
  return pattern;
}

Result<Pattern> Pattern::Literal(std::string_view text) {
  if (text.empty()) return MakeError(ErrorCode::kDataCorrupt, "a string that is not empty");
  return Pattern(Literals(text));
}

Result<Pattern> Pattern::Regex(std::string_view expression) {
  if (expression.size() > kMaxPatternBytes) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("a regular expression of at most {} bytes", kMaxPatternBytes));
  }
  if (const auto words = WordSplitter::For(expression)) return Pattern(*words);
  const std::string source = WithOnigurumaWords(expression);
  int error = 0;
  size_t error_offset = 0;
  // Multi-line as in Oniguruma's Ruby syntax, where ^ and $ always stand at line borders.
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &error_offset, nullptr);
  if (code == nullptr) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("a regular expression ({} at byte {})",
                                 reinterpret_cast<const char*>(message.data()), error_offset));
  }
  // Where the JIT declines, pcre2_match interprets: slower, same matches.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Pattern(
      Code(code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); }));
}

void Pattern::Split(std::string_view text, size_t offset, std::vector<Segment>* segments) const {
  if (const auto* words = std::get_if<WordSplitter>(&finder_)) {
    words->Split(text, [&](size_t begin, size_t end) {
      segments->push_back({begin + offset, end + offset, true});
    });
  } else if (const auto* literal = std::get_if<Literals>(&finder_)) {
    SplitLiteral(*literal, text, offset, segments);
  } else if (text.find("\xE1\xA0\x8E") != std::string_view::npos) {
    SplitRegex(*std::get<Code>(finder_), WithoutMongolianVowelSeparator(text), offset, segments);
  } else {
    SplitRegex(*std::get<Code>(finder_), text, offset, segments);
  }
}

size_t Pattern::SafeCut(std::string_view text, size_t from) const {
  return std::holds_alternative<WordSplitter>(finder_) ? WordSplitter::SafeCut(text, from)
                                                       : text.size();
}

std::string Pattern::ReplaceAll(std::string_view text, std::string_view replacement) const {
  std::vector<Segment> segments;
  Split(text, 0, &segments);
  std::string out;
  out.reserve(text.size());
  for (const Segment& s : segments) {
    out += s.is_match ? replacement : text.substr(s.begin, s.end - s.begin);
  }
  return out;
}

}  // namespace gale::text
