// The two plain-data types that cross the seam between the columns: what to compute in a step, and
// what came of it. They hold no pointers into either column, so that every rank can be sent a copy.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gale/request.h"
#include "kv_cache/kv_cache_spec.h"
#include "request/sequence.h"

namespace gale {

/// So many tokens of a sequence are to be guessed by the runner's proposer, and checked; it may
/// have fewer. runner/speculative/README.md.
struct Draft {
  int32_t num_tokens = 0;
};

enum class LogitsRows : uint8_t { kNone, kLast, kAll };

/// Everything a rank must know of a sequence it has not seen (or has forgotten after a preemption).
struct NewSeqData {
  std::vector<TokenId> tokens;  ///< all known: prompt and, after a preemption, generated
  int32_t num_prompt = 0;
  int32_t num_computed = 0;  ///< KV already valid (prefix cache, fork)
  int sample_index = 0;
  SamplingParams sampling;                  ///< seed and texts resolved
  std::vector<TokenId> end_token_ids = {};  ///< with min_tokens: what must not come before
  std::optional<float> mirostat_mu = {};    ///< as the last draw left it
};

/// `num_tokens` positions of one sequence, from where its last step ended: 1 = decode, k + 1 =
/// speculation, n = a chunk of the prompt. There is no prefill flag. In the overlapped loop the
/// last token may be unknown to the host; the runner reads it where the sampler wrote it.
struct ScheduledSeq {
  SeqId id = 0;
  int32_t begin = 0;  ///< its first position
  int32_t num_tokens = 0;
  std::shared_ptr<const NewSeqData> first_time;  ///< set when the runner does not know `id`
  /// [kv group], appended to the sequence's table; empty when no group got any. With first_time:
  /// the whole table. Entries already sent never change; kNullBlock entries are never read.
  std::vector<BlockList> new_blocks;
  std::optional<TokenId> last_token = {};  ///< in place of the one that was drawn last
  Draft draft;  ///< its tokens are the last draft.num_tokens of num_tokens
  LogitsRows logits = LogitsRows::kNone;
  bool sample = false;     ///< draw a token from the last row
  int32_t num_pooled = 0;  ///< of the last rows the states behind the final norm are wanted
};

/// In a step's order: forget `finished` and `preempted`; swap_out; swap_in; copies (each in list
/// order); then the forward pass of `seqs`. A recurrent state is zero where `begin` is 0.
struct SchedulerOutput {
  uint64_t step = 0;               ///< counts from 1, without gaps over the plans that have seqs
  std::vector<ScheduledSeq> seqs;  ///< empty: nothing to launch, nor to pass to Update
  std::vector<SeqId> finished;     ///< forget these
  std::vector<SeqId> preempted;    ///< forget these too; they come back as first_time
  std::vector<BlockCopy> copies;
  std::vector<BlockCopy> swap_out;  ///< dst is a host block
  std::vector<BlockCopy> swap_in;   ///< src is a host block

  int32_t TotalTokens() const {
    int32_t total = 0;
    for (const ScheduledSeq& seq : seqs) total += seq.num_tokens;
    return total;
  }
};

struct SeqOutput {
  SeqId id = 0;
  int32_t num_drafted = 0;      ///< drafts that were checked; all of tokens but the last are such
  int32_t next_grade = 0;       ///< of the next draft, DraftProposer::Grade; 0: there would be none
  std::vector<TokenId> tokens;  ///< sampled or accepted; empty for a prompt chunk
  std::vector<PositionLogprobs> logprobs;         ///< one per token, when asked for
  std::vector<PositionLogprobs> prompt_logprobs;  ///< of the prompt tokens that these rows predict
  std::optional<float> mirostat_mu = {};          ///< after the draw, with mirostat
  std::vector<float> pooled = {};                 ///< [hidden]: the sum of the states asked for
};

enum class StepKind : uint8_t {
  kLayers,  ///< op by op
  kFused,   ///< by the back end's FusedDecoder
  kGraph,   ///< as a captured graph
};

struct ModelRunnerOutput {
  uint64_t step = 0;
  std::vector<SeqOutput> seqs;  ///< in the order of SchedulerOutput::seqs
  StepKind kind = StepKind::kLayers;
  double device_s = 0;  ///< from the step's begin to its end
  double draft_s = 0;   ///< of it, until the drafts were there
  /// How long the device had nothing to do before this step, which was launched before the step
  /// before had been collected.
  std::optional<double> idle_s = {};
};

}  // namespace gale
