// The fast paths of byte-pair encoding against plain ones.
#include "text/bpe.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "text/byte_level.h"
#include "text/test_files.h"
#include "text/utf8.h"
#include "text/word_merger.h"

namespace gale::text {
namespace {

using Rules = std::map<std::pair<TokenId, TokenId>, MergeTable::Merge>;

/// The definition: the pair of lowest rank, the leftmost of these, until none is left.
std::vector<TokenId> MergedByDefinition(const Rules& rules, std::vector<TokenId> symbols) {
  for (;;) {
    size_t best = symbols.size();
    MergeTable::Merge best_merge;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto it = rules.find({symbols[i], symbols[i + 1]});
      if (it != rules.end() && it->second.rank < best_merge.rank) {
        best = i;
        best_merge = it->second;
      }
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = best_merge.id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

/// Random rules over a few letters. Ranks are shuffled, so that a merge may rank before those that
/// make its halves, which learned vocabularies do not have.
Rules RandomRules(std::mt19937* rng, TokenId num_letters, TokenId num_rules) {
  Rules rules;
  std::vector<uint32_t> ranks;
  for (TokenId i = 0; i < num_rules; ++i) ranks.push_back(static_cast<uint32_t>(i));
  std::shuffle(ranks.begin(), ranks.end(), *rng);
  for (TokenId i = 0; i < num_rules; ++i) {
    const TokenId num_ids = num_letters + i;
    const auto left = static_cast<TokenId>((*rng)() % num_ids);
    const auto right = static_cast<TokenId>((*rng)() % num_ids);
    rules.try_emplace({left, right}, MergeTable::Merge{ranks[static_cast<size_t>(i)], num_ids});
  }
  return rules;
}

TEST(MergeSymbols, FollowsTheDefinitionForShortAndLongWords) {
  std::mt19937 rng(1);
  for (int round = 0; round < 400; ++round) {
    // Ids on both sides of the byte pairs.
    const TokenId first = round % 2 == 0 ? 0 : 250;
    const Rules rules = RandomRules(&rng, first + 3, 40);
    MergeTable table(rules.size());
    for (const auto& [pair, merge] : rules) table.Insert(pair.first, pair.second, merge);
    const size_t size = round % 3 == 0 ? rng() % 400 : rng() % 60;
    std::vector<TokenId> symbols;
    const TokenId num_letters = round % 5 == 0 ? 1 : 3;
    for (size_t i = 0; i < size; ++i) {
      symbols.push_back(first + static_cast<TokenId>(rng() % num_letters));
    }
    const std::vector<TokenId> expected = MergedByDefinition(rules, symbols);
    symbols.resize(MergeSymbols(table, symbols));
    ASSERT_EQ(symbols, expected) << "round " << round << ", " << size << " symbols";
  }
}

TEST(MergeTable, GivesWhatItWasGiven) {
  MergeTable table(3);
  table.Insert(1, 2, {0, 300});
  table.Insert(300, 2, {1, 301});
  table.Insert(2, 300, {2, 302});
  EXPECT_EQ(table.Find(1, 2).id, 300);
  EXPECT_EQ(table.Find(300, 2).id, 301);
  EXPECT_EQ(table.Find(2, 300).id, 302);
  EXPECT_EQ(table.Find(2, 1).rank, MergeTable::kNoRank);
  EXPECT_EQ(table.Find(300, 300).rank, MergeTable::kNoRank);
}

class BytePieces : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<TokenModel> Load() const {
    const std::string text = ReadFile(kTextData + "tokenizers/" + GetParam() + ".json");
    const auto document = JsonDocument::Parse(text, GetParam());
    return Bpe::Parse(document->root().Object()->Get("model")->Object().value()).value();
  }
};

TEST_P(BytePieces, GiveTheIdsOfTheirSpelling) {
  const auto spelled = Load();
  const auto bytes = Load();
  ASSERT_TRUE(bytes->TakeBytes());
  const std::vector<std::string> parts = {"the",  "中",   "文", "字", "é", "ab", "a", "\n",
                                          "です", "日本", "。", "🙂", "я", "да", " ", "привет"};
  std::mt19937 rng(1);
  for (int i = 0; i < 20000; ++i) {
    std::string piece;
    for (size_t size = rng() % 30 + 1; piece.size() < size;) piece += parts[rng() % parts.size()];
    std::string spelling;
    AppendByteLevel(piece, &spelling);
    std::vector<TokenId> expected;
    std::vector<TokenId> ids;
    spelled->Tokenize(spelling, &expected);
    bytes->Tokenize(piece, &ids);
    ASSERT_EQ(ids, expected) << piece;
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, BytePieces, testing::Values("gpt2", "llama3", "qwen2"));

/// Cuts in a vocabulary with tokens that end inside characters.
TEST(ByteCuts, AreWhereNoTokenReachesAcross) {
  const std::string left = "中";
  const std::string right = "文";
  const auto spell = [](std::string_view bytes) {
    std::string spelling;
    AppendByteLevel(bytes, &spelling);
    return spelling;
  };
  const auto can_cut = [&](std::string_view token) {
    const std::string spelling = spell(token);
    const std::vector<std::string_view> tokens = {"a", spelling, "no spelling"};
    return ByteCuts(Vocabulary::FromList(tokens)).CanCut(left, right);
  };
  EXPECT_TRUE(can_cut("b"));
  EXPECT_TRUE(can_cut(right + left));
  EXPECT_FALSE(can_cut(left + left + right.substr(0, 1)));
  EXPECT_FALSE(can_cut(left + right));
  EXPECT_FALSE(can_cut("a" + left + right + "b"));
  EXPECT_FALSE(can_cut(left.substr(2) + right));
  EXPECT_FALSE(can_cut(left.substr(1) + right.substr(0, 2)));
  EXPECT_TRUE(can_cut(left.substr(0, 2)));
}

}  // namespace
}  // namespace gale::text
