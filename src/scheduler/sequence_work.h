// What a sequence could compute in the next step, from its own state alone. Layer L3; used by the
// Scheduler, which decides how much of it there is room for.
#pragma once

#include "request/sequence.h"

namespace gale {

/// num_tokens 0: the sequence must wait.
struct SequenceWork {
  int num_tokens = 0;
  int num_draft = 0;  ///< of these
  bool is_decode = false;
};

SequenceWork NextWork(const Sequence& seq);

/// Whether a step may check several tokens of it at once: not where every draw changes the next.
bool MaySpeculate(const Sequence& seq);

/// The end of the positions that can be computed: sample 0 stops one token short of its prompt's
/// end, and when that is confirmed the other samples fork off.
int32_t EndOfWork(const Sequence& seq);
bool CanFork(const Sequence& seq);

/// Whether prompt logprobs are still to be handed out: by sample 0, while it computes the whole
/// prompt.
bool WantsPromptLogprobs(const Sequence& seq);
/// Whether a cached prefix will do in place of computing it.
bool MayReadPrefix(const Sequence& seq);
/// How many of the last positions of a chunk that ends at `end` go into the embedding, if any.
int32_t NumPooled(const Sequence& seq, int32_t num_tokens, int32_t end);

}  // namespace gale
