#include "scheduler/sequence_work.h"

#include <algorithm>

namespace gale {
namespace {

/// When there is nothing to draw, the samples do not fork: they end with sample 0.
bool WillFork(const Sequence& seq) { return seq.has_forks && seq.max_len > seq.num_prompt; }

}  // namespace

bool CanFork(const Sequence& seq) {
  return WillFork(seq) && seq.num_computed == seq.num_prompt - 1;
}

int32_t EndOfWork(const Sequence& seq) {
  return WillFork(seq) && !CanFork(seq) ? seq.num_prompt - 1 : seq.num_planned();
}

bool WantsPromptLogprobs(const Sequence& seq) {
  return seq.request->sampling.prompt_logprobs.has_value() && seq.sample_index == 0 &&
         seq.num_prompt_logprobs < seq.num_prompt - 1;
}

bool MayReadPrefix(const Sequence& seq) {
  const bool pools_all =
      seq.request->task == TaskKind::kEmbed && seq.request->pooling == Pooling::kMean;
  return !WantsPromptLogprobs(seq) && !pools_all;
}

int32_t NumPooled(const Sequence& seq, int32_t num_tokens, int32_t end) {
  if (seq.request->task != TaskKind::kEmbed) return 0;
  if (seq.request->pooling == Pooling::kMean) return num_tokens;
  return end == seq.num_prompt ? 1 : 0;
}

bool MaySpeculate(const Sequence& seq) {
  return seq.request->sampling.speculative != Speculation::kOff &&
         seq.request->sampling.mirostat == 0 && !seq.request->is_stepwise;
}

SequenceWork NextWork(const Sequence& seq) {
  SequenceWork work;
  const int32_t launched = seq.num_launched();
  if (seq.is_held || (seq.request->is_stepwise && seq.num_in_flight_samples > 0)) return work;
  // Every token that may exist is there or being drawn; only a prompt by itself is still computed.
  if (seq.num_planned() >= seq.max_len && seq.num_planned() > seq.num_prompt) return work;
  if (launched >= EndOfWork(seq)) return work;
  work.num_tokens = EndOfWork(seq) - launched;
  work.is_decode = work.num_tokens == 1 && launched >= seq.num_prompt - 1;
  if (work.is_decode && launched >= seq.num_prompt) {
    work.num_draft = seq.draft.num_tokens;
    work.num_tokens += work.num_draft;
  }
  return work;
}

}  // namespace gale
