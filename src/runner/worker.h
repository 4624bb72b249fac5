// One rank: its device, its share of the model and of the KV pool. Layer L4; owned by an Executor.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "kv_cache/kv_cache_spec.h"
#include "models/model.h"
#include "runner/model_runner.h"

namespace gale {

/// The groups of a model and, behind them, of what guesses for it, which may be null.
std::vector<AttentionGroup> AllAttentionGroups(const Model& model, const DraftProposer* proposer);
/// The attention of all of them, over a cache of `format`, or of the models' own dtypes.
/// Errors: kUnsupported when the device has no attention for the model's heads; kInvalidArgument
/// when an attention back end does not take `block_tokens`.
Result<std::vector<KvGroupRuntime>> CreateKvGroups(Backend& backend,
                                                   std::span<const AttentionGroup> attention,
                                                   int block_tokens,
                                                   std::optional<KvFormat> format = {});
/// What the control column must know of these groups' cache.
KvCacheSpec DescribeKvCache(std::span<const AttentionGroup> attention,
                            std::span<const KvGroupRuntime> groups);

class Worker {
 public:
  /// Creates the attention of every KV group, whose blocks hold `block_tokens` tokens or, in groups
  /// of few layers, a multiple that fits into as many bytes; and, under Numerics::kFast, the fused
  /// decoder if the device has one for the model (its buffers are part of what the device then
  /// lacks in free memory). Allocates nothing else yet. Errors: those of CreateKvGroups.
  static Result<std::unique_ptr<Worker>> Create(std::unique_ptr<Backend> backend,
                                                std::unique_ptr<Model> model, int block_tokens,
                                                std::optional<KvFormat> format = {},
                                                std::unique_ptr<DraftProposer> proposer = nullptr);

  /// What the control column must know of this rank's cache.
  KvCacheSpec kv_cache_spec() const {
    return DescribeKvCache(AllAttentionGroups(*model_, proposer_.get()), groups_);
  }
  const Model& model() const { return *model_; }
  const Backend& backend() const { return *backend_; }

  /// Allocates the KV pool, its part in host memory (0 blocks: none) and the step buffers. Once,
  /// before the first step. Errors: kResourceExhausted.
  Status Allocate(int num_blocks, int num_host_blocks, const StepLimits& limits);
  /// How fast blocks move between device and host, measured by Allocate; 0 without host blocks.
  double host_bytes_per_s() const { return host_bytes_per_s_; }
  /// After Allocate.
  ModelRunner& runner() { return *runner_; }

 private:
  Worker(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model);
  Result<Buffer> AllocateBlocks(int num_blocks, MemoryKind kind);
  Status MeasureHostLink();

  // Destroyed from the bottom up: the model's weights may live in the back end's memory.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<DraftProposer> proposer_;  ///< may be null
  std::vector<KvGroupRuntime> groups_;
  std::unique_ptr<FusedDecoder> fused_;
  Buffer pool_;
  Buffer host_pool_;
  double host_bytes_per_s_ = 0;
  std::unique_ptr<ModelRunner> runner_;
};

/// Bytes of one block of the pool: the largest of the groups'. 0 without groups (an encoder).
size_t PoolBlockBytes(const KvCacheSpec& spec);

}  // namespace gale
