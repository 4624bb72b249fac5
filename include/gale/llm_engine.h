// The engine: requests in, streams of tokens and text out. The only door to the request path.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gale/chat.h"
#include "gale/engine_config.h"
#include "gale/engine_metrics.h"
#include "gale/model_info.h"
#include "gale/request.h"
#include "gale/status.h"
#include "gale/tokenizer.h"

namespace gale {

/// Called while a model loads; `done_bytes` grows to `total_bytes`.
using LoadProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;
/// Where the device's memory goes; decided before any weight is read.
struct MemoryReport {
  uint64_t weights_mapped_bytes = 0;   ///< used in place from mapped files
  uint64_t weights_private_bytes = 0;  ///< copied into the device's memory
  uint64_t kv_bytes = 0;
  uint64_t scratch_bytes = 0;  ///< activations, logits, step arrays
  uint64_t free_bytes = 0;     ///< of the device, before loading
  int max_model_len = 0;
  int max_requests = 0;   ///< of max_model_len that the KV cache holds at once
  int64_t kv_tokens = 0;  ///< of these requests, and of one more in what is left
};
/// Called once, between the model's configuration and its weights.
using MemoryObserver = std::function<void(const MemoryReport&)>;
/// Called on the engine's output thread, in order for one request; must not block for long.
using OutputCallback = std::function<void(const RequestOutput&)>;

struct EngineStats {
  int running_seqs = 0;
  int waiting_seqs = 0;
  int total_blocks = 0;
  int free_blocks = 0;   ///< cached blocks count as free: they can be taken at once
  bool failing = false;  ///< the last step failed; on a device that was given up, for good
  uint64_t steps = 0;
  uint64_t fused_steps = 0;       ///< of these, run by a device's fused decoder
  uint64_t graph_steps = 0;       ///< of these, run as captured graphs
  uint64_t overlapped_steps = 0;  ///< of these, launched on a device that had not finished the last
  double device_busy_s = 0;       ///< what steps took
  double device_idle_s = 0;       ///< between the overlapped steps and those before them
  uint64_t prompt_tokens = 0;     ///< computed, not read from the prefix cache
  uint64_t cached_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t swapped_out_blocks = 0;  ///< of the KV cache, to host memory
  uint64_t swapped_in_blocks = 0;
  uint64_t drafts = 0;                 ///< several tokens of one sequence, guessed for one step
  uint64_t draft_tokens = 0;           ///< of these
  uint64_t accepted_draft_tokens = 0;  ///< that the model would have said itself
  double draft_saved_s = 0;            ///< of steps, by what steps without drafts took; may be < 0
  uint64_t mapped_bytes = 0;           ///< weights used in place from mapped files
  uint64_t private_bytes = 0;  ///< weights, KV cache and scratch in memory of the process's own
};

/// Thread-safe. One engine thread schedules and steps; tokenizing and detokenizing run beside it.
class LlmEngine {
 public:
  /// Loads model and tokenizer and starts the engine thread.
  static Result<std::unique_ptr<LlmEngine>> Create(const EngineConfig& config,
                                                   const LoadProgress& progress = {},
                                                   const MemoryObserver& on_plan = {});
  /// Cancels what runs, delivers every request's final output, joins all threads.
  virtual ~LlmEngine() = default;

  /// Queues a request. What is wrong with it is told here, or, when only tokenizing shows it
  /// (a prompt over the context), in its one final output with kError.
  virtual Result<RequestId> AddRequest(RequestParams params, OutputCallback on_output) = 0;
  /// kResourceExhausted when AddRequest would refuse the last of `num_requests` more: for callers
  /// with costly work to do before it.
  virtual Status CheckQueue(int num_requests) const = 0;
  /// Ends a request at the next step; its final output says kCancelled. Unknown ids are ignored.
  virtual void Cancel(RequestId id) = 0;
  /// Runs requests to their ends, batched together; outputs are whole texts in the order given.
  virtual std::vector<RequestOutput> Generate(std::vector<RequestParams> requests) = 0;

  virtual const Tokenizer* tokenizer() const = 0;         ///< null when the model folder has none
  virtual const ChatTemplate* chat_template() const = 0;  ///< null when the model has none
  virtual const ModelInfo& model_info() const = 0;
  virtual const EngineConfig& config() const = 0;  ///< resolved: no zeros, no "auto"
  /// What it runs on, and why, where that was left to choose: "NVIDIA H200, ...".
  virtual const std::string& device() const = 0;
  virtual EngineStats stats() const = 0;
  virtual EngineMetrics metrics() const = 0;
};

}  // namespace gale
