#include "engine/stop_strings.h"

#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

struct Outcome {
  std::string text;
  bool matched = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome StopAt(const std::vector<std::string>& stops, bool include,
               const std::vector<std::string>& pieces) {
  StopStrings matcher(stops, include);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    outcome.text += matcher.Push(piece);
    if (matcher.matched()) break;
  }
  outcome.text += matcher.Flush();
  outcome.matched = matcher.matched();
  return outcome;
}

/// Cuts `text` at the set bits of `cuts`.
std::vector<std::string> Cut(const std::string& text, unsigned cuts) {
  std::vector<std::string> pieces(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && ((cuts >> (i - 1)) & 1U) != 0) pieces.emplace_back();
    pieces.back() += text[i];
  }
  return pieces;
}

struct Case {
  std::string text;
  std::vector<std::string> stops;
  Outcome excluded;
  Outcome included;
};

TEST(StopStringsTest, EverySplitGivesTheSameText) {
  const std::vector<Case> cases = {
      {"one two", {"zzz"}, {"one two", false}, {"one two", false}},
      {"abaabab!", {"abab"}, {"aba", true}, {"abaabab", true}},  // a prefix that restarts
      {"xx<end>yy", {"<end>"}, {"xx", true}, {"xx<end>", true}},
      {"xx<en", {"<end>"}, {"xx<en", false}, {"xx<en", false}},  // held back, then released
      {"abcd", {"abcd", "c"}, {"ab", true}, {"abc", true}},      // "c" is complete first
      {"wabc", {"bc", "abc"}, {"w", true}, {"wabc", true}},      // both at once: the longest
      {"stop", {"stop"}, {"", true}, {"stop", true}},
      {"aaab", {"aab"}, {"a", true}, {"aaab", true}},
  };
  for (const Case& c : cases) {
    for (unsigned cuts = 0; cuts < 1U << (c.text.size() - 1); ++cuts) {
      EXPECT_EQ(StopAt(c.stops, false, Cut(c.text, cuts)), c.excluded) << c.text << " " << cuts;
      EXPECT_EQ(StopAt(c.stops, true, Cut(c.text, cuts)), c.included) << c.text << " " << cuts;
    }
  }
}

TEST(StopStringsTest, HoldsBackOnlyWhatMayBecomeAStop) {
  const std::vector<std::string> stops = {"\n\n", "User:"};
  StopStrings matcher(stops, false);
  EXPECT_EQ(matcher.Push("Hello\n"), "Hello");
  EXPECT_EQ(matcher.Push("Us"), "\n");
  EXPECT_EQ(matcher.Push("ual"), "Usual");
  EXPECT_EQ(matcher.Push(" User"), " ");
  EXPECT_EQ(matcher.Flush(), "User");
}

/// A stop string may begin in text where none may end.
TEST(StopStringsTest, EndsAfterTextInWhichNoneMayEnd) {
  const auto stopped = [](const std::vector<std::string>& stops, const std::string& barred,
                          const std::string& rest) {
    StopStrings matcher(stops, false);
    std::string text = matcher.Push(barred, false);
    text += matcher.Push(rest);
    return Outcome{text + matcher.Flush(), matcher.matched()};
  };
  EXPECT_EQ(stopped({"ab"}, "xab", "yz"), (Outcome{"xabyz", false}));
  EXPECT_EQ(stopped({"ab"}, "xab", "yab"), (Outcome{"xaby", true}));
  EXPECT_EQ(stopped({"ab"}, "xa", "b"), (Outcome{"x", true}));
  EXPECT_EQ(stopped({"aa"}, "aa", "a"), (Outcome{"a", true}));
  // "b" is held back, as "abc" may be forming, and is still no end.
  EXPECT_EQ(stopped({"b", "abc"}, "ab", "d"), (Outcome{"abd", false}));
  EXPECT_EQ(stopped({"b", "abc"}, "ab", "c"), (Outcome{"", true}));
}

}  // namespace
}  // namespace gale
