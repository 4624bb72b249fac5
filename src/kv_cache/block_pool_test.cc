#include "kv_cache/block_pool.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::ElementsAre;

class BlockPoolTest : public ::testing::Test {
 protected:
  std::vector<BlockId> evicted_;
  BlockPool pool_{5, [this](BlockId id) { evicted_.push_back(id); }};
};

TEST_F(BlockPoolTest, NeverHandsOutTheNullBlock) {
  EXPECT_EQ(pool_.num_total(), 4);
  std::vector<BlockId> taken;
  while (pool_.num_free() > 0) taken.push_back(pool_.Take());
  EXPECT_THAT(taken, ::testing::UnorderedElementsAre(1, 2, 3, 4));
}

TEST_F(BlockPoolTest, FreesABlockWithItsLastReference) {
  const BlockId id = pool_.Take();
  pool_.AddRef(id);
  pool_.Release(id, 0);
  EXPECT_EQ(pool_.num_free(), 3);
  pool_.Release(id, 0);
  EXPECT_EQ(pool_.num_free(), 4);
}

TEST_F(BlockPoolTest, ReusesABlockOnlyWhenTheLastStepOfItsHolderHasRetired) {
  const BlockId id = pool_.Take();
  pool_.Release(id, 7);
  EXPECT_EQ(pool_.num_free(), 3);
  EXPECT_EQ(pool_.num_retiring(), 1);
  pool_.Retire(6);
  EXPECT_EQ(pool_.num_free(), 3);
  pool_.Retire(7);
  EXPECT_EQ(pool_.num_free(), 4);
  EXPECT_EQ(pool_.num_retiring(), 0);
}

TEST_F(BlockPoolTest, WaitsForTheLatestStepOfAllHolders) {
  const BlockId id = pool_.Take();
  pool_.AddRef(id);
  pool_.Release(id, 9);  // the first to let go is the last to read
  pool_.Release(id, 3);
  pool_.Retire(3);
  EXPECT_EQ(pool_.num_free(), 3);
  pool_.Retire(9);
  EXPECT_EQ(pool_.num_free(), 4);
}

TEST_F(BlockPoolTest, ABlockHeldAgainWhileRetiringStaysHeld) {
  const BlockId id = pool_.Take();
  pool_.MarkCached(id);
  pool_.Release(id, 5);
  pool_.AddRef(id);
  pool_.Retire(5);
  EXPECT_EQ(pool_.num_refs(id), 1);
  EXPECT_EQ(pool_.num_free(), 3);
  pool_.Release(id, 8);
  pool_.Retire(7);
  EXPECT_FALSE(pool_.is_idle(id));
  pool_.Retire(8);
  EXPECT_TRUE(pool_.is_idle(id));
}

TEST_F(BlockPoolTest, KeepsCachedBlocksUntilNothingElseIsFree) {
  const BlockId a = pool_.Take();
  const BlockId b = pool_.Take();
  pool_.MarkCached(a);
  pool_.MarkCached(b);
  pool_.Release(b, 0);
  pool_.Release(a, 0);
  EXPECT_EQ(pool_.num_free(), 4);
  pool_.Take();
  pool_.Take();
  EXPECT_THAT(evicted_, ElementsAre());
  EXPECT_EQ(pool_.Take(), b);  // released first
  EXPECT_FALSE(pool_.is_cached(b));
  EXPECT_THAT(evicted_, ElementsAre(b));
}

TEST_F(BlockPoolTest, AHitMovesABlockToTheEndOfTheEvictionOrder) {
  const BlockId a = pool_.Take();
  const BlockId b = pool_.Take();
  for (const BlockId id : {a, b}) pool_.MarkCached(id);
  for (const BlockId id : {a, b}) pool_.Release(id, 0);
  pool_.AddRef(a);
  pool_.Release(a, 0);
  pool_.Take();
  pool_.Take();
  EXPECT_EQ(pool_.Take(), b);
}

TEST_F(BlockPoolTest, EvictsInTheOrderOfReleaseWhateverTheStepsInFlight) {
  const BlockId leaf = pool_.Take();
  const BlockId root = pool_.Take();
  for (const BlockId id : {leaf, root}) pool_.MarkCached(id);
  pool_.Release(leaf, 4);
  pool_.Release(root, 0);
  pool_.Retire(4);
  pool_.Take();
  pool_.Take();
  EXPECT_EQ(pool_.Take(), leaf);
}

TEST_F(BlockPoolTest, IntegrityComparesReferencesWithTheHolders) {
  const BlockId id = pool_.Take();
  std::vector<int> refs(5, 0);
  EXPECT_FALSE(pool_.CheckIntegrity(refs));
  refs[id] = 1;
  EXPECT_TRUE(pool_.CheckIntegrity(refs));
  refs[id] = 2;
  EXPECT_FALSE(pool_.CheckIntegrity(refs));
}

TEST(BlockPoolDeathTest, RefusesToReleaseWhatNobodyHolds) {
  BlockPool pool(3, [](BlockId) {});
  const BlockId id = pool.Take();
  pool.Release(id, 0);
  EXPECT_DEATH(pool.Release(id, 0), "num_refs > 0");
}

}  // namespace
}  // namespace gale
