// What a step brought one sequence: from the runner's output to the news that the engine passes on.
// Layer L3; made by the Scheduler.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "gale/status.h"
#include "request/sequence.h"

namespace gale {

/// The last one of a sequence has a finish_reason; it may have no tokens.
struct SequenceUpdate {
  std::shared_ptr<const Request> request;
  SeqId id = 0;
  int sample_index = 0;
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;         ///< one per token, when asked for
  std::vector<PositionLogprobs> prompt_logprobs;  ///< sample 0: the next ones, in order, each once
  std::vector<float> pooled;  ///< an embedding's sum of hidden states, with the last one
  FinishReason finish_reason = FinishReason::kNone;
  std::optional<Error> error;    ///< with kError
  int32_t num_cached = 0;        ///< prompt tokens read from the prefix cache
  double first_scheduled_s = 0;  ///< what Schedule was told; 0: never scheduled
};

/// Without news yet.
SequenceUpdate UpdateOf(const Sequence& seq);

/// Appends the drawn tokens up to the first that ends the sequence, and drops what comes behind it
/// from both lists. Returns how it ended, if it did.
FinishReason AppendTokens(Sequence& seq, std::vector<TokenId>& tokens,
                          std::vector<PositionLogprobs>& logprobs);

/// Adds the states of a step to those that the sequence's embedding is made of.
void AddPooled(Sequence& seq, const std::vector<float>& states);

/// `news` are of the prompt positions from `begin` on; those that have been handed out before, as
/// happens after a preemption, are dropped.
void TakePromptLogprobs(Sequence& seq, int32_t begin, std::vector<PositionLogprobs>& news);

}  // namespace gale
