#include "kv_cache/prefix_cache.h"

#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

using Tokens = std::vector<TokenId>;

TEST(PrefixCacheTest, FindsAChainByItsTokens) {
  PrefixCache cache({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 42);
  PrefixNode& root = cache.Root("");
  cache.Pin(root);
  PrefixNode& ab = cache.Child(root, Tokens{1, 2});
  cache.SetBlock(ab, 0, 3);
  PrefixNode& abcd = cache.Child(ab, Tokens{3, 4});
  cache.SetBlock(abcd, 0, 5);
  EXPECT_EQ(cache.FindRoot(""), &root);
  EXPECT_EQ(cache.FindChild(root, Tokens{1, 2}), &ab);
  EXPECT_EQ(cache.FindChild(ab, Tokens{3, 4}), &abcd);
  EXPECT_EQ(cache.FindChild(root, Tokens{3, 4}), nullptr);  // the same unit after another prefix
  EXPECT_EQ(cache.FindChild(ab, Tokens{4, 3}), nullptr);
  EXPECT_EQ(abcd.num_units, 2);
  EXPECT_TRUE(cache.CheckIntegrity());
}

TEST(PrefixCacheTest, SaltsShareNothing) {
  PrefixCache cache({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 42);
  PrefixNode& a = cache.Root("a");
  cache.SetBlock(cache.Child(a, Tokens{1, 2}), 0, 1);
  EXPECT_EQ(cache.FindRoot("b"), nullptr);
  PrefixNode& b = cache.Root("b");
  EXPECT_NE(&a, &b);
  EXPECT_EQ(cache.FindChild(b, Tokens{1, 2}), nullptr);
}

TEST(PrefixCacheTest, HashesDependOnTheSeed) {
  PrefixCache a({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 1);
  PrefixCache b({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 2);
  EXPECT_NE(a.Root("").hash, b.Root("").hash);
  EXPECT_NE(a.Child(a.Root(""), Tokens{1, 1}).hash, b.Child(b.Root(""), Tokens{1, 1}).hash);
}

TEST(PrefixCacheTest, CollisionsAreToldApartByTheirTokens) {
  PrefixCache cache({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 42,
                    [](const void*, size_t, uint64_t) -> uint64_t { return 7; });
  PrefixNode& root = cache.Root("");
  PrefixNode& a = cache.Child(root, Tokens{1, 2});
  cache.SetBlock(a, 0, 1);
  EXPECT_EQ(cache.FindChild(root, Tokens{5, 6}), nullptr);
  PrefixNode& b = cache.Child(root, Tokens{5, 6});
  cache.SetBlock(b, 0, 2);
  EXPECT_NE(&a, &b);
  EXPECT_EQ(cache.FindChild(root, Tokens{1, 2}), &a);
  EXPECT_EQ(cache.FindChild(root, Tokens{5, 6}), &b);
  EXPECT_EQ(cache.FindChild(a, Tokens{1, 2}), nullptr);
}

TEST(PrefixCacheTest, NodesLiveWhileTheyHaveABlockAChildOrAPin) {
  PrefixCache cache({.num_groups = 1, .unit_tokens = 2, .num_blocks = {8, 4}}, 42);
  PrefixNode& root = cache.Root("");
  PrefixNode& parent = cache.Child(root, Tokens{1, 1});
  cache.SetBlock(parent, 0, 1);
  PrefixNode& child = cache.Child(parent, Tokens{2, 2});
  cache.SetBlock(child, 0, 2);
  cache.Pin(child);
  EXPECT_EQ(cache.num_nodes(), 3U);
  cache.Forget(1);  // the child keeps its parents
  EXPECT_EQ(cache.num_nodes(), 3U);
  EXPECT_EQ(parent.Block(0), kNullBlock);
  cache.Forget(2);  // the pin keeps the child
  EXPECT_EQ(cache.num_nodes(), 3U);
  EXPECT_TRUE(cache.CheckIntegrity());
  cache.Unpin(child);
  EXPECT_EQ(cache.num_nodes(), 0U);
}

TEST(PrefixCacheTest, NodesAreUsedAgain) {
  PrefixCache cache({.num_groups = 1, .unit_tokens = 1, .num_blocks = {2, 1}}, 42);
  for (TokenId token = 0; token < 3000; ++token) {
    PrefixNode* node = &cache.Root("");
    for (int i = 0; i < 10; ++i) node = &cache.Child(*node, Tokens{token + i});
    EXPECT_EQ(cache.num_nodes(), 11U);
    EXPECT_EQ(node->Block(0), kNullBlock);
    cache.SetBlock(*node, 0, 1);
    ASSERT_TRUE(cache.CheckIntegrity());
    cache.Forget(1);
    ASSERT_EQ(cache.num_nodes(), 0U);
  }
}

TEST(PrefixCacheTest, ANodeMayHaveABlockInEachTier) {
  PrefixCache cache({.num_groups = 2, .unit_tokens = 2, .num_blocks = {8, 4}}, 42);
  PrefixNode& root = cache.Root("");
  PrefixNode& node = cache.Child(root, Tokens{1, 1});
  cache.SetBlock(node, 1, 3);
  cache.SetBlock(node, 1, 2, KvTier::kHost);
  EXPECT_EQ(node.Block(1), 3);
  EXPECT_EQ(node.Block(1, KvTier::kHost), 2);
  EXPECT_EQ(node.Block(0), kNullBlock);
  EXPECT_EQ(cache.ContentOf(2, KvTier::kHost).node, &node);
  EXPECT_EQ(cache.ContentOf(2).node, nullptr);
  EXPECT_TRUE(cache.CheckIntegrity());
  cache.Forget(3);  // the host still has it
  EXPECT_EQ(cache.FindChild(root, Tokens{1, 1}), &node);
  cache.Forget(2, KvTier::kHost);
  EXPECT_EQ(cache.num_nodes(), 0U);
}

}  // namespace
}  // namespace gale
