// Where the device's memory goes, decided once at start-up before the KV cache is allocated.
// Layer L5; called by LlmEngine::Create.
#pragma once

#include <cstddef>
#include <string>

#include "gale/engine_config.h"
#include "gale/status.h"
#include "kv_cache/kv_cache_spec.h"

namespace gale {

struct MemoryDemand {
  size_t free_bytes = 0;            ///< of the device, beside the weights
  size_t gpu_bytes = 0;             ///< all that the device has; 0: its memory is the host's
  size_t weights_mapped_bytes = 0;  ///< used in place from files; the page cache may drop them
  size_t weights_private_bytes = 0;
  size_t scratch_bytes = 0;  ///< activations, logits, step arrays
  KvCacheSpec kv;
  int model_max_len = 0;  ///< positions the model was made for
};

struct MemoryPlan {
  size_t block_bytes = 0;
  int num_blocks = 0;  ///< the pool's null block included
  size_t kv_bytes = 0;
  int max_model_len = 0;
  int max_requests = 0;   ///< of max_model_len that the pool holds at once
  int64_t kv_tokens = 0;  ///< of these requests, and of one more in what is left
};

/// Sizes the KV pool. `config.kv_cache_bytes` is taken as it is; 0 takes room for max_num_seqs
/// sequences of full length, at most a quarter of free memory, or on a GPU what is left of its
/// gpu_memory_utilization. `config.max_model_len` is likewise
/// taken as it is; 0 takes the model's own, or less when the pool cannot hold one such sequence.
/// Errors: kInvalidArgument when max_model_len is over the model's; kResourceExhausted, with every
/// number of the plan, when something does not fit.
Result<MemoryPlan> PlanMemory(const EngineConfig& config, const MemoryDemand& demand);

/// Blocks that one sequence of `tokens` positions holds at once, at most, over all groups.
int BlocksPerSequence(const KvCacheSpec& kv, int tokens, int max_step_tokens);

/// "1.50 GiB"
std::string FormatBytes(size_t bytes);

}  // namespace gale
