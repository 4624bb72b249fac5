// A request inside the engine, and the sequences it owns. Layer L1 of the control column:
// host bookkeeping only, no tensors, no device.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gale/model_info.h"
#include "gale/request.h"

namespace gale {

using SeqId = uint64_t;   ///< never recycled
using BlockId = int32_t;  ///< index into the block pool
using BlockList = std::vector<BlockId>;

/// Block 0 of every pool belongs to nobody. In a block table it marks positions that are never read
/// again (out of a sliding window), so that slot arithmetic stays position / block_tokens.
inline constexpr BlockId kNullBlock = 0;

struct PrefixNode;  // kv_cache/prefix_cache.h

/// What the client asked, tokenized. Immutable but for `cancelled`.
struct Request {
  RequestId id = 0;
  std::vector<TokenId> prompt;
  SamplingParams sampling;              ///< validated; seed and texts resolved; n is best_of's
  std::vector<TokenId> stop_token_ids;  ///< the model's (unless ignore_eos) and the request's own
  int priority = 0;
  TaskKind task = TaskKind::kGenerate;
  Pooling pooling = Pooling::kLast;  ///< with kEmbed
  std::string client;                ///< as in RequestParams
  double deadline_s = 0;             ///< by the engine's clock; 0: none
  std::string cache_salt;
  int num_returned = 0;          ///< those with the best sums of logprobs; 0: all samples
  bool returns_logprobs = true;  ///< else they are asked for to rank samples
  bool is_stepwise = false;  ///< its sequences are held after every token, see Scheduler::Continue
  std::shared_ptr<const Request> parent;  ///< the beam search that this is a step of
  std::atomic<bool> cancelled = false;    ///< set from any thread; the scheduler looks every step

  /// What the client sent: of a step the beam search.
  const Request& origin() const { return parent != nullptr ? *parent : *this; }
  bool is_cancelled() const {
    return cancelled.load(std::memory_order_relaxed) ||
           (parent != nullptr && parent->is_cancelled());
  }
};

enum class SequenceState : uint8_t {
  kForking,  ///< holds no blocks; waits until sample 0 has computed the prompt
  kWaiting,  ///< holds no device blocks; to be admitted (again, after a preemption)
  kRunning,  ///< holds blocks; scheduled whenever the budget allows, unless it is held
  kHeld,     ///< holds no device blocks and is in no queue; waits for Scheduler::Continue
};

/// A copy of a recurrent group's state after `num_tokens` tokens.
struct KeptState {
  int group = 0;
  int32_t num_tokens = 0;
  BlockId block = kNullBlock;
};

/// How long a sequence may go on before others have their turn; see FairShares, which sets it.
struct Turn {
  double deadline = 0;     ///< smaller goes first; 0: first come, first served
  int32_t num_tokens = 0;  ///< generated, that it lasts
  int32_t end = std::numeric_limits<int32_t>::max();  ///< position where it is over
  int32_t num_charged = 0;  ///< positions that its client has been charged for
};

/// What speculating on a sequence has come to; see DraftController, which sets it.
struct DraftRecord {
  int32_t num_tokens = 0;   ///< to be guessed in the next step
  bool goes_on = false;     ///< its last step had a draft
  int32_t grade = 0;        ///< what the next draft promises; 0: there would be none
  double num_right = 0;     ///< drafts lately, older ones faded
  double num_expected = 0;  ///< to be right of them, by their grades
};

/// Positions of a sequence, as half-open intervals:
///   [0, num_computed)                             KV valid and confirmed by a collected step
///   [num_computed, num_computed + num_in_flight)  launched, not collected; with drafts a bound
///   [0, tokens.size())                            tokens known to the host
///   [tokens.size(), num_planned())                tokens being drawn
///   [0, max_len)                                  what may ever be; the end is a length stop
struct Sequence {
  SeqId id = 0;
  std::shared_ptr<const Request> request;
  int sample_index = 0;  ///< which of the request's n samples
  SequenceState state = SequenceState::kWaiting;
  std::vector<TokenId> tokens;  ///< prompt, then confirmed generated tokens
  int32_t num_prompt = 0;
  int32_t max_len = 0;                ///< most tokens it may ever hold, prompt included
  int32_t num_computed = 0;           ///< KV valid and confirmed; written by Update and admission
  int32_t num_in_flight = 0;          ///< positions launched and not collected
  int32_t num_in_flight_samples = 0;  ///< launches not collected that yield a token (drafts: more)
  int32_t num_cached = 0;           ///< prompt tokens read from the prefix cache at first admission
  int32_t num_prompt_logprobs = 0;  ///< prompt positions whose logprobs have been handed out
  int32_t num_preemptions = 0;
  std::vector<float> pooled;  ///< kEmbed: the sum of states so far
  Turn turn;
  DraftRecord draft;
  std::optional<float> mirostat_mu;  ///< as its last draw left it
  bool is_held = false;          ///< stepwise: its last token is there, and it waits for Continue
  bool is_replaced = false;      ///< the runner does not know its last token
  bool has_forks = false;        ///< sample 0: the other samples wait for its prompt
  uint64_t first_step = 0;       ///< its first launch since it got blocks; 0: none
  uint64_t last_step = 0;        ///< its blocks are reused only once this step has retired
  double first_scheduled_s = 0;  ///< by the engine's clock; 0: not yet

  // Owned by the KvCacheManager.
  std::vector<BlockList> blocks;       ///< [kv group]: one per block_tokens positions, or one state
  std::vector<KeptState> kept_states;  ///< copies of recurrent states, not yet in the prefix cache
  PrefixNode* prefix = nullptr;        ///< the longest cached prefix of this sequence
  int32_t num_prefix = 0;              ///< its tokens

  int32_t num_generated() const { return static_cast<int32_t>(tokens.size()) - num_prompt; }
  int32_t num_launched() const { return num_computed + num_in_flight; }
  int32_t num_planned() const {
    return static_cast<int32_t>(tokens.size()) + num_in_flight_samples;
  }
};

}  // namespace gale
