// One rank: its device, its share of the model and of the KV pool. Layer L4; owned by an Executor.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "kv_cache/kv_cache_spec.h"
#include "models/model.h"
#include "runner/model_runner.h"

namespace gale {

class Worker {
 public:
  /// Creates the attention of every KV group and the runner's step buffers.
  /// Errors: kInvalidArgument when an attention back end does not take `block_tokens`;
  /// kResourceExhausted when the buffers do not fit.
  static Result<std::unique_ptr<Worker>> Create(std::unique_ptr<Backend> backend,
                                                std::unique_ptr<Model> model, int block_tokens,
                                                const StepLimits& limits);

  /// What the control column must know of this rank's cache.
  KvCacheSpec kv_cache_spec() const;
  /// Allocates the pool and binds every group to it. Once, before the first step.
  Status AllocateKv(int num_blocks);

  ModelRunner& runner() { return *runner_; }

 private:
  Worker(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model);

  // Destroyed from the bottom up: the model's weights live in the back end's memory.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::vector<KvGroupRuntime> groups_;
  Buffer pool_;
  std::unique_ptr<ModelRunner> runner_;
};

/// Bytes of one block of the pool: the largest of the groups'. 0 without groups (an encoder).
size_t PoolBlockBytes(const KvCacheSpec& spec);

}  // namespace gale
