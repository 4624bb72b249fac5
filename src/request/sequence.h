// A request inside the engine, and the sequences it owns. Layer L1 of the control column:
// host bookkeeping only, no tensors, no device.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gale/request.h"

namespace gale {

using SeqId = uint64_t;    ///< never recycled
using BlockId = int32_t;   ///< index into the block pool
using BlockList = std::vector<BlockId>;

/// What the client asked, tokenized. Immutable but for `cancelled`.
struct Request {
  RequestId id = 0;
  std::vector<TokenId> prompt;
  SamplingParams sampling;                 ///< validated; seed resolved
  std::vector<TokenId> stop_token_ids;     ///< the model's end tokens (unless ignore_eos) and the request's own
  int priority = 0;
  std::string cache_salt;
  std::atomic<bool> cancelled = false;     ///< set from any thread; the scheduler looks every step
};

enum class SequenceState : uint8_t {
  kWaiting,    ///< holds no blocks; to be admitted (again, after a preemption)
  kRunning,    ///< holds blocks; scheduled whenever the budget allows
  kFinished,   ///< terminal; its blocks are freed
};

struct Sequence {
  SeqId id = 0;
  std::shared_ptr<Request> request;
  int sample_index = 0;                    ///< which of the request's n samples
  SequenceState state = SequenceState::kWaiting;
  FinishReason finish_reason = FinishReason::kNone;
  std::vector<TokenId> tokens;             ///< prompt, then confirmed generated tokens
  int32_t num_prompt = 0;
  int32_t num_computed = 0;                ///< KV valid and confirmed; written by Scheduler::Update (and admission) only
  int32_t num_in_flight = 0;               ///< upper bound of positions launched and not collected
  int32_t num_in_flight_samples = 0;       ///< tokens those launches will yield
  int32_t num_cached = 0;                  ///< prompt tokens read from the prefix cache at first admission
  uint64_t last_step = 0;                  ///< blocks may be freed at once, but reused only once this step has retired
  std::vector<BlockList> blocks;           ///< [kv group]

  int32_t num_generated() const { return static_cast<int32_t>(tokens.size()) - num_prompt; }
};

}  // namespace gale
