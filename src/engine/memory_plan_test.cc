#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMiB = size_t{1} << 20;

/// One full group of 1 MiB blocks with 16 tokens; a model of 1,024 positions.
MemoryDemand Demand(size_t free_bytes) {
  MemoryDemand demand;
  demand.free_bytes = free_bytes;
  demand.weights_mapped_bytes = 100 * kMiB;
  demand.scratch_bytes = 10 * kMiB;
  demand.kv.groups.push_back({.num_layers = 2, .block_tokens = 16, .bytes_per_block = kMiB});
  demand.model_max_len = 1024;
  return demand;
}

TEST(MemoryPlanTest, DefaultHoldsEverySequenceInFull) {
  EngineConfig config;
  config.max_num_seqs = 8;
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(100000 * kMiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->num_blocks, 8 * 1024 / 16 + 1);  // and the null block
  EXPECT_EQ(plan->kv_bytes, 513 * kMiB);
  EXPECT_EQ(plan->max_model_len, 1024);
}

TEST(MemoryPlanTest, DefaultTakesAtMostAQuarterOfFreeMemory) {
  EngineConfig config;
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->num_blocks, 201);
  EXPECT_EQ(plan->max_model_len, 1024);
}

/// Of 2,000 MiB, 200 stay free, 1,000 were taken by others, 10 go to scratch.
TEST(MemoryPlanTest, DefaultFillsAGpuToItsUtilization) {
  EngineConfig config;
  config.gpu_memory_utilization = 0.9;
  MemoryDemand demand = Demand(1000 * kMiB);
  demand.gpu_bytes = 2000 * kMiB;
  Result<MemoryPlan> plan = PlanMemory(config, demand);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->kv_bytes, 791 * kMiB);  // with the null block
  config.gpu_memory_utilization = 0.5;    // no more than the others have
  plan = PlanMemory(config, demand);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(plan.error().message, HasSubstr("or raise gpu_memory_utilization"));
  config.kv_cache_bytes = 900 * kMiB;  // taken as it is
  plan = PlanMemory(config, demand);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->kv_bytes, 900 * kMiB);
}

TEST(MemoryPlanTest, DefaultContextShrinksToThePool) {
  EngineConfig config;
  config.kv_cache_bytes = 10 * kMiB;
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->num_blocks, 10);
  EXPECT_EQ(plan->max_model_len, 144);  // nine blocks beside the null block
}

TEST(MemoryPlanTest, SaysHowManyRequestsThePoolHolds) {
  EngineConfig config;
  config.kv_cache_bytes = 10 * kMiB;  // nine blocks beside the null block
  config.max_model_len = 40;          // three blocks
  Result<MemoryPlan> plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->max_requests, 3);
  EXPECT_EQ(plan->kv_tokens, 120);
  config.max_model_len = 64;  // four blocks, and one is left
  plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->max_requests, 2);
  EXPECT_EQ(plan->kv_tokens, 2 * 64 + 16);
}

TEST(MemoryPlanTest, AskedContextThatDoesNotFitIsAnErrorWithTheNumbers) {
  EngineConfig config;
  config.kv_cache_bytes = 10 * kMiB;
  config.max_model_len = 512;
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(plan.error().message, HasSubstr("max_model_len 512"));
  EXPECT_THAT(plan.error().message, HasSubstr("32.0 MiB"));
  EXPECT_THAT(plan.error().message, HasSubstr("weights 100.0 MiB mapped"));
}

TEST(MemoryPlanTest, AskedPoolOverFreeMemoryIsAnError) {
  EngineConfig config;
  config.kv_cache_bytes = 795 * kMiB;  // with 10 MiB of scratch over 800
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(800 * kMiB));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(plan.error().message, HasSubstr("scratch 10.0 MiB"));
}

TEST(MemoryPlanTest, ContextOverTheModelsIsRefused) {
  EngineConfig config;
  config.max_model_len = 1025;
  const Result<MemoryPlan> plan = PlanMemory(config, Demand(100000 * kMiB));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(plan.error().message, HasSubstr("1024"));
}

TEST(MemoryPlanTest, GroupsAddUpAndStatesTakeOneBlock) {
  KvCacheSpec kv;
  kv.groups.push_back({.kind = KvKind::kFull, .block_tokens = 16});
  kv.groups.push_back({.kind = KvKind::kFull, .block_tokens = 32});
  kv.groups.push_back({.kind = KvKind::kRecurrent});
  EXPECT_EQ(BlocksPerSequence(kv, 33, 512), 3 + 2 + 1);
}

TEST(MemoryPlanTest, AWindowBoundsWhatASequenceHolds) {
  EngineConfig config;
  config.max_num_batched_tokens = 64;
  config.kv_cache_bytes = 20 * kMiB;
  MemoryDemand demand = Demand(800 * kMiB);
  demand.kv.groups[0].kind = KvKind::kSlidingWindow;
  demand.kv.groups[0].window = 100;
  // The window and two steps, begun anywhere in a block.
  EXPECT_EQ(BlocksPerSequence(demand.kv, 1024, 64), (100 + 2 * 64 + 15) / 16 + 1);
  EXPECT_EQ(BlocksPerSequence(demand.kv, 33, 64), 3);
  const Result<MemoryPlan> plan = PlanMemory(config, demand);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->max_model_len, 1024);
  EXPECT_EQ(plan->num_blocks, 20);
}

}  // namespace
}  // namespace gale
