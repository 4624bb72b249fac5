#include "runner/speculative/suffix_automaton.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

/// Length of the longest end of `text` that ends earlier in it as well.
int32_t LongestRepeat(const std::vector<TokenId>& text) {
  const size_t n = text.size();
  int32_t longest = 0;
  for (size_t end = 1; end < n; ++end) {
    int32_t length = 0;
    while (static_cast<size_t>(length) < end && text[end - 1 - length] == text[n - 1 - length]) {
      ++length;
    }
    longest = std::max(longest, length);
  }
  return longest;
}

TEST(SuffixAutomatonTest, FindsTheLongestRepeatOfEveryText) {
  std::mt19937 random(7);
  for (const unsigned num_tokens : {1U, 2U, 3U, 20U}) {
    for (int round = 0; round < 8; ++round) {
      SuffixAutomaton automaton;
      std::vector<TokenId> text;
      while (text.size() < 120) {
        // At times a stretch of what was there comes again.
        const size_t copied = random() % 5 == 0 ? random() % (text.size() + 1) : text.size();
        const size_t length = copied == text.size() ? 1 : random() % 12;
        for (size_t i = copied; i < copied + length; ++i) {
          const auto fresh = static_cast<TokenId>(random() % num_tokens);
          text.push_back(i < text.size() ? text[i] : fresh);
          automaton.Extend(text.back());
          const SuffixAutomaton::Match match = automaton.LongestRepeat();
          ASSERT_EQ(match.length, LongestRepeat(text)) << text.size();
          ASSERT_LT(match.end, automaton.size());
          for (int32_t k = 1; k <= match.length; ++k) {
            ASSERT_EQ(text[match.end - k], text[text.size() - k]);
          }
        }
      }
      EXPECT_EQ(automaton.size(), static_cast<int32_t>(text.size()));
    }
  }
}

TEST(SuffixAutomatonTest, KnowsTheLatestPlace) {
  SuffixAutomaton automaton;
  for (const TokenId token : {1, 2, 3, 9, 1, 2, 4, 8, 1, 2}) automaton.Extend(token);
  EXPECT_EQ(automaton.LongestRepeat().length, 2);
  EXPECT_EQ(automaton.LongestRepeat().end, 6);  // before the 4
}

}  // namespace
}  // namespace gale
