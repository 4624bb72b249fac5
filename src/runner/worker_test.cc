#include "runner/worker.h"

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "models/load_model.h"

namespace gale {
namespace {

Result<std::unique_ptr<Worker>> MakeWorker(const std::string& config, int block_tokens) {
  auto backend = *CreateBackend("cpu", {.threads = 1});
  Result<LoadedModel> loaded =
      LoadModel({.model = GALE_SOURCE_DIR "/tests/data/configs/" + config + ".json",
                 .format = LoadFormat::kDummy},
                *backend);
  if (!loaded) return tl::unexpected(loaded.error());
  return Worker::Create(std::move(backend), std::move(loaded->model), block_tokens);
}

/// Three layers with a window for each without: blocks of the few hold twice the tokens, not to be
/// mostly empty.
TEST(WorkerTest, BlocksOfAGroupOfFewLayersHoldMoreTokens) {
  const auto worker = MakeWorker("gemma3_dim32", 16);
  ASSERT_TRUE(worker) << worker.error().message;
  const KvCacheSpec spec = (*worker)->kv_cache_spec();
  ASSERT_EQ(spec.groups.size(), 2U);
  EXPECT_EQ(spec.groups[0].kind, KvKind::kSlidingWindow);
  EXPECT_EQ(spec.groups[0].window, 21);
  EXPECT_EQ(spec.groups[0].num_layers, 3);
  EXPECT_EQ(spec.groups[0].block_tokens, 16);
  EXPECT_EQ(spec.groups[1].kind, KvKind::kFull);
  EXPECT_EQ(spec.groups[1].num_layers, 1);
  EXPECT_EQ(spec.groups[1].block_tokens, 32);
  EXPECT_EQ(PoolBlockBytes(spec), spec.groups[0].bytes_per_block);
}

TEST(WorkerTest, RefusesBlocksThatAttentionHasNot) {
  const auto worker = MakeWorker("gemma3_dim32", 17);
  ASSERT_FALSE(worker);
  EXPECT_EQ(worker.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(worker.error().message,
            "block_tokens: expected one of {16, 32, 64, 128, 256} on device 'cpu', got 17");
}

}  // namespace
}  // namespace gale
