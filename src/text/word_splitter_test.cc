// The written-out patterns against the same expressions on PCRE2.
#include "text/word_splitter.h"

#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <utf8proc.h>

#include "text/pattern.h"
#include "text/utf8.h"

namespace gale::text {
namespace {

using Ends = std::vector<size_t>;

std::string Group(std::string_view expression) { return fmt::format("(?:{})", expression); }

class WordSplitters : public testing::TestWithParam<std::string_view> {
 protected:
  /// Where `text` is cut by the splitter and by PCRE2, to which a group around the expression is
  /// another expression.
  Ends Fast(std::string_view text) const {
    Ends ends;
    splitter_.Split(text, [&](size_t begin, size_t end) {
      EXPECT_EQ(begin, ends.empty() ? 0 : ends.back());
      ends.push_back(end);
    });
    return ends;
  }
  Ends Generic(std::string_view text) const {
    std::vector<Segment> segments;
    regex_.Split(text, 0, &segments);
    Ends ends;
    for (const Segment& s : segments) {
      EXPECT_TRUE(s.is_match);
      ends.push_back(s.end);
    }
    return ends;
  }

  WordSplitter splitter_ = WordSplitter::For(GetParam()).value();
  Pattern regex_ = Pattern::Regex(Group(GetParam())).value();
};

/// PCRE2 and utf8proc may know different versions of Unicode; code points that one of them does not
/// know yet are left out.
bool IsKnownToBoth(char32_t c) {
  static const Pattern unassigned = Pattern::Regex("\\p{Cn}").value();
  std::string text;
  AppendUtf8(c, &text);
  std::vector<Segment> segments;
  unassigned.Split(text, 0, &segments);
  const bool cn = utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_CN;
  return segments[0].is_match == cn;
}

TEST_P(WordSplitters, ClassifyEveryCodePointAsTheRegexDoes) {
  int num_unknown = 0;
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    // Blocks without any character behave alike; a sample of them is enough.
    if (c >= 0x32400 && c % 61 != 0) continue;
    if (!IsKnownToBoth(c)) {
      ++num_unknown;
      continue;
    }
    text = "a";
    for (const char* between : {"a", " ", "  1", "1", "'", "!", "\n"}) {
      AppendUtf8(c, &text);
      text += between;
    }
    AppendUtf8(c, &text);
    AppendUtf8(c, &text);
    ASSERT_EQ(Fast(text), Generic(text)) << "U+" << std::hex << static_cast<uint32_t>(c);
  }
  EXPECT_LT(num_unknown, 10000);
}

/// Texts of few characters, so that their combinations come up.
std::string RandomText(std::mt19937* rng, size_t size) {
  static const std::vector<std::string> kParts = {
      "a",      "S",      "t",      "re",   "L",  "l",  "'",      "'",      "’",      "ſ",
      " ",      " ",      "  ",     "\n",   "\r", "\t", "\u00a0", "\u3000", "1",      "22",
      "²",      "Ⅳ",      "!",      "==",   "中", "文", "\u0301", "é",      "🙂",     "ก",
      "\u2028", "\u180e", "\u200b", "\x01", "ﬆ",  "K",  "'S",     "'ll",    "'\u017f"};
  std::string text;
  while (text.size() < size) text += kParts[(*rng)() % kParts.size()];
  return text;
}

TEST_P(WordSplitters, CutRandomTextsAsTheRegexDoes) {
  std::mt19937 rng(1);
  for (int i = 0; i < 20000; ++i) {
    const std::string text = RandomText(&rng, i % 40);
    ASSERT_EQ(Fast(text), Generic(text)) << text;
  }
}

TEST_P(WordSplitters, CutTheSameOnBothSidesOfASafeCut) {
  std::mt19937 rng(2);
  size_t num_cuts = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string text = RandomText(&rng, 60);
    const size_t cut = WordSplitter::SafeCut(text, rng() % 60);
    if (cut == text.size()) continue;
    ++num_cuts;
    Ends ends = Fast(text.substr(0, cut));
    for (const size_t end : Fast(text.substr(cut))) ends.push_back(end + cut);
    ASSERT_EQ(ends, Fast(text)) << text << " cut at " << cut;
  }
  EXPECT_GT(num_cuts, 1000u);
}

const std::vector<std::string> kNames = {"Gpt2", "Llama3", "Qwen2"};
INSTANTIATE_TEST_SUITE_P(Kinds, WordSplitters,
                         testing::Values(kGpt2Expression, kLlama3Expression, kQwen2Expression),
                         [](const auto& param) { return kNames[param.index]; });

TEST(WordSplitter, LeavesOtherExpressionsAlone) {
  EXPECT_FALSE(WordSplitter::For("\\w+"));
  EXPECT_FALSE(WordSplitter::For(Group(kGpt2Expression)));
}

}  // namespace
}  // namespace gale::text
