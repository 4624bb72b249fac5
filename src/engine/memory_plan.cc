#include "engine/memory_plan.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "runner/worker.h"

namespace gale {
namespace {

constexpr size_t kDefaultShareOfFree = 4;  // the rest stays for the page cache and other programs

std::string Describe(const MemoryDemand& demand, size_t kv_bytes) {
  return fmt::format(
      "weights {} mapped and {} private, KV cache {}, scratch {}; free beside the "
      "weights {}",
      FormatBytes(demand.weights_mapped_bytes), FormatBytes(demand.weights_private_bytes),
      FormatBytes(kv_bytes), FormatBytes(demand.scratch_bytes), FormatBytes(demand.free_bytes));
}

/// The most that the KV cache takes unasked.
size_t MaxDefaultBytes(const EngineConfig& config, const MemoryDemand& demand) {
  if (demand.gpu_bytes == 0) return demand.free_bytes / kDefaultShareOfFree;
  const double kept_free =
      (1 - config.gpu_memory_utilization) * static_cast<double>(demand.gpu_bytes);
  const size_t taken = demand.scratch_bytes + static_cast<size_t>(kept_free);
  return demand.free_bytes - std::min(demand.free_bytes, taken);
}

/// Blocks for sequences, before it is known whether one fits. The pool's null block comes on top.
size_t WantedBlocks(const EngineConfig& config, const MemoryDemand& demand, int max_model_len,
                    size_t block_bytes) {
  if (config.kv_cache_bytes > 0)
    return std::max<size_t>(config.kv_cache_bytes / block_bytes, 1) - 1;
  const size_t full = static_cast<size_t>(BlocksPerSequence(demand.kv, max_model_len,
                                                            config.max_num_batched_tokens)) *
                      static_cast<size_t>(config.max_num_seqs);
  return std::min(full, MaxDefaultBytes(config, demand) / block_bytes);
}

/// The longest sequence that `blocks` hold.
int LongestSequence(const KvCacheSpec& kv, size_t blocks, int max_tokens, int max_step_tokens) {
  int low = 0;
  int high = max_tokens;
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (static_cast<size_t>(BlocksPerSequence(kv, middle, max_step_tokens)) <= blocks) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace

std::string FormatBytes(size_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= size_t{1} << 30) return fmt::format("{:.2f} GiB", value / (1 << 30));
  if (bytes >= size_t{1} << 20) return fmt::format("{:.1f} MiB", value / (1 << 20));
  return fmt::format("{:.1f} KiB", value / (1 << 10));
}

int BlocksPerSequence(const KvCacheSpec& kv, int tokens, int max_step_tokens) {
  int blocks = 0;
  for (const KvGroup& group : kv.groups) blocks += BlocksToHold(group, tokens, max_step_tokens);
  return blocks;
}

Result<MemoryPlan> PlanMemory(const EngineConfig& config, const MemoryDemand& demand) {
  if (config.max_model_len > demand.model_max_len) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("max_model_len: the model knows {} positions, got {}",
                                 demand.model_max_len, config.max_model_len));
  }
  MemoryPlan plan;
  plan.max_model_len = config.max_model_len > 0 ? config.max_model_len : demand.model_max_len;
  plan.block_bytes = PoolBlockBytes(demand.kv);
  const size_t blocks = WantedBlocks(config, demand, plan.max_model_len, plan.block_bytes);
  // Slots, block * block_tokens + offset, are i32.
  int block_tokens = 1;
  for (const KvGroup& group : demand.kv.groups) {
    block_tokens = std::max(block_tokens, group.block_tokens);
  }
  const auto max_blocks = std::numeric_limits<int32_t>::max() / block_tokens;
  plan.num_blocks = static_cast<int>(std::min(blocks + 1, static_cast<size_t>(max_blocks)));
  plan.kv_bytes = static_cast<size_t>(plan.num_blocks) * plan.block_bytes;

  const int longest =
      LongestSequence(demand.kv, blocks, plan.max_model_len, config.max_num_batched_tokens);
  if (config.max_model_len == 0 && longest > 0) plan.max_model_len = longest;
  if (longest < plan.max_model_len || longest < 1) {
    const size_t one = static_cast<size_t>(BlocksPerSequence(demand.kv, plan.max_model_len,
                                                             config.max_num_batched_tokens)) *
                       plan.block_bytes;
    return MakeError(
        ErrorCode::kResourceExhausted,
        fmt::format("the KV cache cannot hold one sequence of max_model_len {}: that takes {}, "
                    "{} is planned ({}). Lower max_model_len or raise {}.",
                    plan.max_model_len, FormatBytes(one), FormatBytes(plan.kv_bytes),
                    Describe(demand, plan.kv_bytes),
                    demand.gpu_bytes > 0 && config.kv_cache_bytes == 0 ? "gpu_memory_utilization"
                                                                       : "kv_cache_bytes"));
  }
  if (plan.kv_bytes + demand.scratch_bytes > demand.free_bytes) {
    return MakeError(ErrorCode::kResourceExhausted,
                     fmt::format("the model does not fit into memory: {}. Lower kv_cache_bytes, "
                                 "max_num_batched_tokens or max_model_len.",
                                 Describe(demand, plan.kv_bytes)));
  }
  const auto one = static_cast<size_t>(
      BlocksPerSequence(demand.kv, plan.max_model_len, config.max_num_batched_tokens));
  plan.max_requests = static_cast<int>(blocks / one);
  plan.kv_tokens =
      int64_t{plan.max_requests} * plan.max_model_len +
      LongestSequence(demand.kv, blocks % one, plan.max_model_len, config.max_num_batched_tokens);
  return plan;
}

}  // namespace gale
