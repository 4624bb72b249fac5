#include "gale/engine_config.h"

#include <fmt/format.h>

#include "backend/registry.h"
#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kMaxModelLen = 1 << 24;  // positions are i32; block tables stay far from overflow
constexpr int kMaxSeqs = 1 << 16;
constexpr int kMaxBatchedTokens = 1 << 20;
constexpr int kMaxThreads = 4096;

Status CheckRange(std::string_view field, int value, int low, int high) {
  if (value >= low && value <= high) return {};
  return MakeError(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: expected a number in [{}, {}], got {}", field, low, high, value));
}

}  // namespace

Status EngineConfig::Validate() const {
  if (model.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "model: expected a checkpoint folder, or a preset with dummy weights; got "
                     "nothing");
  }
  if (device.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "device: expected \"auto\" or a device's name");
  }
  GALE_RETURN_IF_ERROR(CheckRange("threads", threads, 0, kMaxThreads));
  GALE_RETURN_IF_ERROR(CheckRange("max_model_len", max_model_len, 0, kMaxModelLen));
  GALE_RETURN_IF_ERROR(CheckRange("block_tokens", block_tokens, 1, 4096));
  GALE_RETURN_IF_ERROR(CheckRange("max_num_seqs", max_num_seqs, 1, kMaxSeqs));
  GALE_RETURN_IF_ERROR(
      CheckRange("max_num_batched_tokens", max_num_batched_tokens, 0, kMaxBatchedTokens));
  if (!(device_timeout_s > 0)) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("device_timeout_s: expected seconds above 0, got {}", device_timeout_s));
  }
  if (!(gpu_memory_utilization > 0 && gpu_memory_utilization <= 1)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("gpu_memory_utilization: expected a share in (0, 1], got {}",
                                 gpu_memory_utilization));
  }
  if (max_step_stretch != 0 && !(max_step_stretch > 1)) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("max_step_stretch: expected 0 or a number above 1, got {}", max_step_stretch));
  }
  GALE_RETURN_IF_ERROR(CheckRange("speculative.max_tokens", speculative.max_tokens, 0, 32));
  GALE_RETURN_IF_ERROR(CheckRange("max_queued_tokens", max_queued_tokens, 0, 1 << 30));
  return CheckRange("max_queued_requests", max_queued_requests, 1, 1 << 24);
}

std::vector<std::string> SupportedDevices() { return BackendNames(); }

}  // namespace gale
