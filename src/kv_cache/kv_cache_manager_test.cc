#include "kv_cache/kv_cache_manager.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

KvGroup Full(int block_tokens) { return {.kind = KvKind::kFull, .block_tokens = block_tokens}; }
KvGroup Window(int block_tokens, int window) {
  return {.kind = KvKind::kSlidingWindow, .block_tokens = block_tokens, .window = window};
}
KvGroup Recurrent(int block_tokens) {
  return {.kind = KvKind::kRecurrent, .block_tokens = block_tokens};
}

KvCacheConfig Config(std::vector<KvGroup> groups, int num_blocks, int num_host_blocks = 0) {
  KvCacheConfig config;
  config.spec.groups = std::move(groups);
  config.num_blocks = num_blocks;
  config.num_host_blocks = num_host_blocks;
  return config;
}

/// A sequence of the tokens 0, 1, 2, ...
Sequence Counting(SeqId id, int num_tokens, const std::string& salt = "") {
  auto request = std::make_shared<Request>();
  request->cache_salt = salt;
  Sequence seq;
  seq.id = id;
  seq.tokens.resize(num_tokens);
  std::iota(seq.tokens.begin(), seq.tokens.end(), 0);
  request->prompt = seq.tokens;
  seq.request = request;
  seq.num_prompt = num_tokens;
  return seq;
}

/// Allocates and commits [num_computed, end), as a step of the synchronous loop does.
void Compute(KvCacheManager& kv, Sequence& seq, int end, const PrefixMatch& match = {}) {
  ++seq.last_step;
  const int begin = seq.blocks.empty() ? match.num_tokens : seq.num_computed;
  ASSERT_TRUE(kv.AllocateSlots(seq, match, end - begin));
  kv.Retire(seq.last_step);
  kv.Commit(seq, end);
}

#define EXPECT_SOUND(kv) \
  if (const Status status = (kv).CheckIntegrity(); !status) ADD_FAILURE() << status.error().message

TEST(KvCacheManagerTest, AllocatesWholeBlocksAllOrNothing) {
  KvCacheManager kv(Config({Full(4), Full(8)}, 6));
  Sequence seq = Counting(1, 40);
  EXPECT_EQ(kv.BlocksNeeded(seq, {}, 9), 3 + 2);
  EXPECT_FALSE(kv.AllocateSlots(seq, {}, 17));  // 5 + 3 of 5
  EXPECT_THAT(seq.blocks, IsEmpty());
  EXPECT_EQ(kv.num_free(), 5);
  EXPECT_TRUE(kv.AllocateSlots(seq, {}, 9));
  EXPECT_THAT(seq.blocks, ElementsAre(SizeIs(3), SizeIs(2)));
  EXPECT_THAT(seq.blocks[0], Each(Not(kNullBlock)));
  EXPECT_EQ(kv.num_free(), 0);
  seq.num_in_flight = 9;
  EXPECT_TRUE(kv.AllocateSlots(seq, {}, 3));  // position 11 is still in the third block
  EXPECT_FALSE(kv.AllocateSlots(seq, {}, 4));
  EXPECT_SOUND(kv);
  kv.Free(seq);
  EXPECT_EQ(kv.num_free(), 5);
}

TEST(KvCacheManagerTest, FreedBlocksWaitForTheLastStep) {
  KvCacheManager kv(Config({Full(4)}, 4));
  Sequence seq = Counting(1, 12);
  seq.last_step = 2;
  ASSERT_TRUE(kv.AllocateSlots(seq, {}, 12));
  kv.Retire(1);
  kv.Free(seq);
  EXPECT_EQ(kv.num_free(), 0);
  EXPECT_EQ(kv.num_retiring(), 3);
  EXPECT_SOUND(kv);
  kv.Retire(2);
  EXPECT_EQ(kv.num_free(), 3);
}

TEST(KvCacheManagerTest, MatchesWholeConfirmedBlocksOnly) {
  KvCacheManager kv(Config({Full(4)}, 16));
  Sequence a = Counting(1, 12);
  ASSERT_TRUE(kv.AllocateSlots(a, {}, 12));
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 0);  // launched is not confirmed
  kv.Commit(a, 11);
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 8);
  kv.Commit(a, 12);
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 12);
  EXPECT_EQ(kv.MatchPrefix(a, 11).num_tokens, 8);  // never the whole prompt
  Sequence other = Counting(2, 12);
  other.tokens[5] = 99;
  EXPECT_EQ(kv.MatchPrefix(other, 11).num_tokens, 4);
}

TEST(KvCacheManagerTest, AHitSharesBlocksAlsoOfAnEndedSequence) {
  KvCacheManager kv(Config({Full(4)}, 8));
  Sequence a = Counting(1, 10);
  Compute(kv, a, 10);
  const BlockList blocks = a.blocks[0];
  kv.Free(a);
  EXPECT_EQ(kv.num_free(), 7);
  Sequence b = Counting(2, 10);
  const PrefixMatch match = kv.MatchPrefix(b, 9);
  EXPECT_EQ(kv.BlocksNeeded(b, match, 2), 3);  // two idle ones and a new one
  Compute(kv, b, 10, match);
  EXPECT_EQ(b.blocks[0][0], blocks[0]);
  EXPECT_EQ(b.blocks[0][1], blocks[1]);
  EXPECT_EQ(kv.num_free(), 4);
  Sequence c = Counting(3, 10);
  const PrefixMatch again = kv.MatchPrefix(c, 9);
  EXPECT_EQ(kv.BlocksNeeded(c, again, 2), 1);  // held blocks cost nothing
  Compute(kv, c, 10, again);
  EXPECT_EQ(kv.num_free(), 3);
  EXPECT_SOUND(kv);
  kv.Free(b);
  EXPECT_EQ(kv.MatchPrefix(c, 9).num_tokens, 8);
  kv.Free(c);
  EXPECT_EQ(kv.num_free(), 7);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, NotOneSaltSeesAnothersPrefixes) {
  KvCacheManager kv(Config({Full(4)}, 16));
  Sequence a = Counting(1, 12, "alice");
  Compute(kv, a, 12);
  EXPECT_EQ(kv.MatchPrefix(Counting(2, 12, "alice"), 11).num_tokens, 8);
  EXPECT_EQ(kv.MatchPrefix(Counting(3, 12, "bob"), 11).num_tokens, 0);
  EXPECT_EQ(kv.MatchPrefix(Counting(4, 12), 11).num_tokens, 0);
}

TEST(KvCacheManagerTest, CollidingHashesDoNotShareBlocks) {
  KvCacheConfig config = Config({Full(4)}, 16);
  config.prefix_hash = [](const void*, size_t, uint64_t) -> uint64_t { return 1; };
  KvCacheManager kv(config);
  Sequence a = Counting(1, 12);
  Compute(kv, a, 12);
  Sequence b = Counting(2, 12);
  b.tokens[0] = 99;
  EXPECT_EQ(kv.MatchPrefix(b, 11).num_tokens, 0);
  Compute(kv, b, 12);
  EXPECT_EQ(kv.MatchPrefix(b, 11).num_tokens, 8);
  EXPECT_NE(kv.MatchPrefix(b, 11).node, kv.MatchPrefix(a, 11).node);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, EvictsAPrefixFromItsEnd) {
  KvCacheManager kv(Config({Full(4)}, 6));
  Sequence a = Counting(1, 16);
  Compute(kv, a, 16);
  kv.Free(a);
  EXPECT_EQ(kv.num_prefixes(), 5U);
  Sequence b = Counting(2, 8);
  b.tokens[0] = 99;
  Compute(kv, b, 8);  // one free block and one eviction
  EXPECT_EQ(kv.MatchPrefix(a, 16).num_tokens, 12);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, TwoThatComputeTheSameKeepOneCopy) {
  KvCacheManager kv(Config({Full(4)}, 8));
  Sequence a = Counting(1, 8);
  Sequence b = Counting(2, 8);
  Compute(kv, a, 8);
  Compute(kv, b, 8);
  kv.Free(a);
  kv.Free(b);
  EXPECT_EQ(kv.num_free(), 7);
  EXPECT_EQ(kv.num_prefixes(), 3U);
  EXPECT_EQ(kv.MatchPrefix(b, 8).num_tokens, 8);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, WithoutPrefixCacheNothingMatches) {
  KvCacheConfig config = Config({Full(4)}, 8);
  config.enable_prefix_cache = false;
  KvCacheManager kv(config);
  Sequence a = Counting(1, 8);
  Compute(kv, a, 8);
  EXPECT_EQ(kv.MatchPrefix(a, 8).num_tokens, 0);
  EXPECT_EQ(kv.num_prefixes(), 0U);
}

TEST(KvCacheManagerTest, FreesBlocksThatLeaveTheWindow) {
  KvCacheManager kv(Config({Window(4, 6)}, 16));
  Sequence seq = Counting(1, 20);
  Compute(kv, seq, 8);
  // The query at 8 sees positions 3 to 8: the first block is still needed.
  EXPECT_THAT(seq.blocks[0], Each(Not(kNullBlock)));
  Compute(kv, seq, 9);  // the query at 9 sees 4 to 9
  EXPECT_THAT(seq.blocks[0], ElementsAre(kNullBlock, Not(kNullBlock), Not(kNullBlock)));
  Compute(kv, seq, 20);  // the query at 20 sees 15 to 20
  EXPECT_THAT(seq.blocks[0],
              ElementsAre(kNullBlock, kNullBlock, kNullBlock, Not(kNullBlock), Not(kNullBlock)));
  EXPECT_EQ(kv.num_free(), 15 - 2);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, AWindowHitNeedsOnlyTheBlocksInTheWindow) {
  KvCacheManager kv(Config({Window(4, 6)}, 7));
  Sequence a = Counting(1, 16);
  Compute(kv, a, 8);
  Compute(kv, a, 16);
  kv.Free(a);
  Sequence filler = Counting(2, 16);
  filler.tokens[0] = 99;
  Compute(kv, filler, 16);  // evicts a's oldest blocks
  kv.Free(filler);
  Sequence b = Counting(3, 18);
  const PrefixMatch match = kv.MatchPrefix(b, 17);
  ASSERT_EQ(match.num_tokens, 16);
  Compute(kv, b, 18, match);
  EXPECT_THAT(b.blocks[0],
              ElementsAre(kNullBlock, kNullBlock, kNullBlock, Not(kNullBlock), Not(kNullBlock)));
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, AHitIsValidInEveryGroup) {
  KvCacheManager kv(Config({Full(8), Full(4)}, 16));
  Sequence a = Counting(1, 12);
  Compute(kv, a, 12);
  // 12 tokens are cached in the second group, but only 8 are whole blocks of the first.
  const PrefixMatch match = kv.MatchPrefix(Counting(2, 20), 19);
  EXPECT_EQ(match.num_tokens, 8);
  Sequence b = Counting(2, 20);
  Compute(kv, b, 20, match);
  EXPECT_EQ(b.blocks[0][0], a.blocks[0][0]);
  EXPECT_EQ(b.blocks[1][1], a.blocks[1][1]);
  EXPECT_NE(b.blocks[1][2], a.blocks[1][2]);
  EXPECT_EQ(kv.MatchPrefix(Counting(3, 20), 19).num_tokens, 16);  // b has added the next block
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, KeepsRecurrentStatesOnChunkBorders) {
  KvCacheManager kv(Config({Full(4), Recurrent(4)}, 16));
  Sequence a = Counting(1, 11);
  EXPECT_EQ(kv.ChunkEnd(a, 0, 11), 8);
  EXPECT_EQ(kv.ChunkEnd(a, 0, 7), 4);
  EXPECT_EQ(kv.ChunkEnd(a, 8, 11), 11);
  EXPECT_EQ(kv.ChunkEnd(Counting(1, 8), 0, 8), 4);  // a hit never covers the whole prompt
  Compute(kv, a, 8);
  EXPECT_EQ(kv.MatchPrefix(a, 10).num_tokens, 0);  // the state of 8 tokens is not kept yet
  kv.TakeMoves();
  Compute(kv, a, 11);
  const BlockMoves kept = kv.TakeMoves();
  ASSERT_THAT(kept.copies, SizeIs(1));
  EXPECT_EQ(kept.copies[0].src, a.blocks[1][0]);

  Sequence b = Counting(2, 11);
  const PrefixMatch match = kv.MatchPrefix(b, 10);
  ASSERT_EQ(match.num_tokens, 8);
  Compute(kv, b, 11, match);
  const BlockMoves moves = kv.TakeMoves();
  ASSERT_THAT(moves.copies, SizeIs(1));
  EXPECT_EQ(moves.copies[0].group, 1);
  EXPECT_EQ(moves.copies[0].src, kept.copies[0].dst);
  EXPECT_EQ(moves.copies[0].dst, b.blocks[1][0]);
  EXPECT_EQ(b.blocks[0][1], a.blocks[0][1]);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, ForkSharesFullBlocksAndCopiesThePartialOne) {
  KvCacheManager kv(Config({Full(4), Recurrent(4)}, 16));
  Sequence parent = Counting(1, 11);
  Compute(kv, parent, 10);
  kv.TakeMoves();
  Sequence child = Counting(2, 11);
  ASSERT_TRUE(kv.Fork(parent, child));
  EXPECT_EQ(child.num_computed, 10);
  EXPECT_EQ(child.blocks[0][0], parent.blocks[0][0]);
  EXPECT_EQ(child.blocks[0][1], parent.blocks[0][1]);
  EXPECT_NE(child.blocks[0][2], parent.blocks[0][2]);
  const BlockMoves moves = kv.TakeMoves();
  ASSERT_THAT(moves.copies, SizeIs(2));
  EXPECT_EQ(moves.copies[0].src, parent.blocks[0][2]);
  EXPECT_EQ(moves.copies[0].dst, child.blocks[0][2]);
  EXPECT_EQ(moves.copies[1].src, parent.blocks[1][0]);
  EXPECT_EQ(moves.copies[1].dst, child.blocks[1][0]);
  EXPECT_SOUND(kv);
  kv.Free(parent);
  EXPECT_SOUND(kv);
  kv.Free(child);
  EXPECT_EQ(kv.num_free(), 15);
}

TEST(KvCacheManagerTest, ForkOnABlockBorderCopiesNothing) {
  KvCacheManager kv(Config({Full(4)}, 3));
  Sequence parent = Counting(1, 9);
  Compute(kv, parent, 8);
  Sequence child = Counting(2, 9);
  ASSERT_TRUE(kv.Fork(parent, child));
  EXPECT_EQ(child.blocks, parent.blocks);
  EXPECT_THAT(kv.TakeMoves().copies, IsEmpty());
}

TEST(KvCacheManagerTest, ForkWithoutRoomChangesNothing) {
  KvCacheManager kv(Config({Full(4)}, 4));
  Sequence parent = Counting(1, 10);
  Compute(kv, parent, 10);
  Sequence child = Counting(2, 10);
  EXPECT_FALSE(kv.Fork(parent, child));
  EXPECT_THAT(child.blocks, IsEmpty());
  EXPECT_SOUND(kv);
}

/// A sequence of other tokens than Counting's that takes the whole pool.
void Evict(KvCacheManager& kv, int num_tokens) {
  Sequence filler = Counting(99, num_tokens);
  for (TokenId& token : filler.tokens) token += 1000;
  Compute(kv, filler, num_tokens);
  kv.Free(filler);
}

TEST(KvCacheManagerTest, EvictedPrefixesComeBackFromTheHost) {
  KvCacheManager kv(Config({Full(4)}, 1 + 4, 1 + 8));
  Sequence a = Counting(1, 13);
  Compute(kv, a, 13);
  const BlockList before = a.blocks[0];
  kv.Free(a);
  Evict(kv, 16);
  const std::vector<BlockCopy> out = kv.TakeMoves().swap_out;
  ASSERT_THAT(out, SizeIs(3));  // whole blocks, the last one first
  EXPECT_EQ(out[0].src, before[2]);
  EXPECT_EQ(out[2].src, before[0]);
  EXPECT_SOUND(kv);

  Sequence b = Counting(2, 13);
  const PrefixMatch match = kv.MatchPrefix(b, 12);
  ASSERT_EQ(match.num_tokens, 12);
  EXPECT_EQ(kv.BlocksNeeded(b, match, 1), 4);
  b.last_step = 9;
  ASSERT_TRUE(kv.AllocateSlots(b, match, 1));
  EXPECT_EQ(b.num_computed, 12);
  const BlockMoves moves = kv.TakeMoves();
  ASSERT_THAT(moves.swap_in, SizeIs(3));
  for (const BlockCopy& in : moves.swap_in) {
    // Each from where it went, to its place in the table.
    const auto from = std::ranges::find(out, in.src, &BlockCopy::dst);
    ASSERT_NE(from, out.end());
    const auto index = std::ranges::find(before, from->src) - before.begin();
    EXPECT_EQ(b.blocks[0][static_cast<size_t>(index)], in.dst);
  }
  EXPECT_SOUND(kv);
  kv.Retire(9);
  kv.Free(b);
  EXPECT_EQ(kv.num_host_free(), 8);
  // The host still has them: they are evicted again without being moved.
  Evict(kv, 16);
  for (const BlockCopy& again : kv.TakeMoves().swap_out) {
    EXPECT_THAT(moves.swap_in, Each(::testing::Field(&BlockCopy::dst, Not(again.src))));
  }
  EXPECT_EQ(kv.MatchPrefix(b, 12).num_tokens, 12);
}

TEST(KvCacheManagerTest, AHostBlockIsNotOverwrittenInTheStepThatBringsItBack) {
  KvCacheManager kv(Config({Full(4)}, 1 + 2, 1 + 2));
  Sequence a = Counting(1, 8);
  Compute(kv, a, 8);
  kv.Free(a);
  Evict(kv, 8);  // a is on the host, the filler on the device
  Sequence b = Counting(2, 8);
  b.last_step = 5;
  ASSERT_TRUE(kv.AllocateSlots(b, kv.MatchPrefix(b, 8), 0));  // evicts the filler
  const BlockMoves moves = kv.TakeMoves();
  EXPECT_THAT(moves.swap_in, SizeIs(2));
  EXPECT_THAT(moves.swap_out, SizeIs(2));  // those of a alone: the host had no room for more
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, NothingMovesWhenTheHostDoesNotPay) {
  KvCacheManager kv(Config({Full(4)}, 1 + 4, 1 + 8));
  Sequence a = Counting(1, 12);
  Compute(kv, a, 12);
  kv.Free(a);
  kv.UseHost(false);
  Evict(kv, 16);
  EXPECT_THAT(kv.TakeMoves().swap_out, IsEmpty());
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 0);
  kv.UseHost(true);
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 0);
}

TEST(KvCacheManagerTest, ARecurrentStateComesBackIntoTheSequencesOwnBlock) {
  KvCacheManager kv(Config({Recurrent(4)}, 1 + 3, 1 + 3));
  Sequence a = Counting(1, 9);
  Compute(kv, a, 8);
  Compute(kv, a, 9);  // keeps the state after 8
  kv.Free(a);
  ASSERT_EQ(kv.MatchPrefix(a, 8).num_tokens, 8);
  for (SeqId id = 10; id < 13; ++id) {
    Sequence filler = Counting(id, 3);
    filler.tokens[0] = static_cast<TokenId>(1000 * id);
    Compute(kv, filler, 3);
    if (id == 12) kv.Free(filler);
  }
  ASSERT_THAT(kv.TakeMoves().swap_out, SizeIs(1));
  Sequence b = Counting(2, 9);
  const PrefixMatch match = kv.MatchPrefix(b, 8);
  ASSERT_EQ(match.num_tokens, 8);
  EXPECT_EQ(kv.BlocksNeeded(b, match, 1), 1);
  ASSERT_TRUE(kv.AllocateSlots(b, match, 1));
  const BlockMoves moves = kv.TakeMoves();
  ASSERT_THAT(moves.swap_in, SizeIs(1));
  EXPECT_EQ(moves.swap_in[0].dst, b.blocks[0][0]);
  EXPECT_THAT(moves.copies, IsEmpty());
}

TEST(KvCacheManagerTest, ForgetsPrefixesOfBothTiers) {
  KvCacheManager kv(Config({Full(4)}, 1 + 4, 1 + 8));
  Sequence a = Counting(1, 12);
  Compute(kv, a, 12);
  kv.Free(a);
  Evict(kv, 8);
  kv.ForgetPrefixes();
  EXPECT_EQ(kv.num_prefixes(), 0U);
  EXPECT_EQ(kv.num_free(), 4);
  EXPECT_EQ(kv.num_host_free(), 8);
  EXPECT_EQ(kv.MatchPrefix(a, 12).num_tokens, 0);
  EXPECT_SOUND(kv);
}

TEST(KvCacheManagerTest, IntegrityNoticesABlockHeldTwice) {
  KvCacheManager kv(Config({Full(4)}, 8));
  Sequence seq = Counting(1, 8);
  Compute(kv, seq, 8);
  const BlockId second = seq.blocks[0][1];
  seq.blocks[0][1] = seq.blocks[0][0];
  EXPECT_FALSE(kv.CheckIntegrity());
  seq.blocks[0][1] = second;
  EXPECT_TRUE(kv.CheckIntegrity());
  seq.blocks[0].pop_back();
  EXPECT_FALSE(kv.CheckIntegrity());
}

}  // namespace
}  // namespace gale
