#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/byte_level.h"
#include "text/pattern.h"

namespace gale::text {
namespace {

std::string Lossy(std::string_view bytes) {
  std::string out;
  AppendLossyUtf8(bytes, &out);
  return out;
}

TEST(Utf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(Lossy("aé🙂"), "aé🙂");
  EXPECT_EQ(Lossy("\xFF\xFE"), "\uFFFD\uFFFD");
  EXPECT_EQ(Lossy("\xE4\xBD"), "\uFFFD");  // one truncated character
  EXPECT_EQ(Lossy("\xF0\x9F\x99x"), "\uFFFDx");
  EXPECT_EQ(Lossy("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(Lossy("\xC0\xAF"), "\uFFFD\uFFFD");                      // an overlong form
  EXPECT_EQ(Lossy("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // over U+10FFFF
  EXPECT_EQ(Lossy("\xE4\xBD\xE4\xBD\xA0"), "\uFFFD\u4F60");
}

TEST(Utf8, FindsUnfinishedCharactersAtTheEnd) {
  EXPECT_EQ(IncompleteSuffixSize(""), 0u);
  EXPECT_EQ(IncompleteSuffixSize("abc"), 0u);
  EXPECT_EQ(IncompleteSuffixSize("a\xC3"), 1u);
  EXPECT_EQ(IncompleteSuffixSize("a\xE4\xBD"), 2u);
  EXPECT_EQ(IncompleteSuffixSize("\xF0\x9F\x99"), 3u);
  EXPECT_EQ(IncompleteSuffixSize("\xF0\x9F\x99\x82"), 0u);
  EXPECT_EQ(IncompleteSuffixSize("\xED\xA0"), 0u);  // cannot become a character
  EXPECT_EQ(IncompleteSuffixSize("\x80\x80\x80\x80"), 0u);
}

TEST(Utf8, RoundTripsEveryCharacter) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const Utf8Char read = DecodeUtf8(text);
    ASSERT_EQ(read.state, Utf8Char::State::kValid);
    ASSERT_EQ(static_cast<uint32_t>(read.code_point), static_cast<uint32_t>(c));
    ASSERT_EQ(read.size, text.size());
    ASSERT_EQ(Utf8Size(text[0]), text.size());
  }
}

TEST(ByteLevel, IsABijection) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all.push_back(static_cast<char>(byte));
  std::string spelling;
  AppendByteLevel(all, &spelling);
  EXPECT_EQ(spelling.size(), 2 * 256 - 94u);  // 94 printable ASCII characters stay one byte
  std::string back;
  EXPECT_TRUE(AppendBytesOfSpelling(spelling, &back));
  EXPECT_EQ(back, all);
  std::string space;
  AppendByteLevel(" \n", &space);
  EXPECT_EQ(space, "ĠĊ");
  EXPECT_FALSE(AppendBytesOfSpelling("a文", &back));
  EXPECT_EQ(back, all);
}

TEST(Pattern, SplitsAtMatches) {
  const auto split = [](std::string_view expression, std::string_view text) {
    std::vector<Segment> segments;
    const auto pattern = Pattern::Regex(expression);
    EXPECT_TRUE(pattern.has_value());
    pattern->Split(text, 0, &segments);
    std::string shown;
    for (const Segment& s : segments) {
      shown += (s.is_match ? "<" : "(") + std::string(text.substr(s.begin, s.end - s.begin)) +
               (s.is_match ? ">" : ")");
    }
    return shown;
  };
  EXPECT_EQ(split("b+", "abbcb"), "(a)<bb>(c)<b>");
  EXPECT_EQ(split("", "aé"), "(a)(é)");
  EXPECT_EQ(split("x*", "axé"), "(a)<x>(é)");
  EXPECT_EQ(split(R"(\s+(?!\S)|\s+)", "a  b"), "(a)< >< >(b)");
  EXPECT_EQ(split(R"(\p{L}+)", "é文 1"), "<é文>( 1)");
  EXPECT_EQ(split(R"(\s)", "a\u180Eb\u3000"), "(a\u180Eb)<\u3000>");  // U+180E is no space
  // Marks and numbers, but no joiners; inside a class not all numbers.
  EXPECT_EQ(split(R"(\w+)", "e\u0301_²١\u200Dx"), "<e\u0301_²١>(\u200D)<x>");
  EXPECT_EQ(split(R"([\w-]+|\W)", "e\u0301-²"), "<e\u0301-><²>");
  EXPECT_EQ(split("^a", "a\na"), "<a>(\n)<a>");  // ^ stands at every line, as in Oniguruma
}

}  // namespace
}  // namespace gale::text
