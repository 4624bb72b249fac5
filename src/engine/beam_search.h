// Beam search over log-probabilities: which continuations of its beams a search goes on with, and
// when it ends. Layer L5; knows nothing of engines or models. Equal to transformers' generate()
// with num_beams.
#pragma once

#include <span>
#include <vector>

#include "gale/request.h"

namespace gale {

/// A continuation of the prompt.
struct Beam {
  size_t parent = 0;  ///< which running beam it continues, before the last Advance
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;  ///< one per token
  float sum = 0;                           ///< of their logprobs
  float score = 0;                         ///< of a finished one: sum / length^length_penalty
  FinishReason finish_reason = FinishReason::kNone;
};

class BeamSearch {
 public:
  /// `end_tokens` end a beam, and so do `max_tokens` >= 1 tokens.
  BeamSearch(const SamplingParams& sampling, std::vector<TokenId> end_tokens, int max_tokens);

  /// Beams to continue, best first; to begin with an empty one.
  const std::vector<Beam>& running() const { return running_; }
  /// How many of the likeliest next tokens of a beam can matter.
  int num_alternatives() const;
  /// next[i].top: the num_alternatives() likeliest tokens after running()[i], or the vocabulary.
  void Advance(std::span<const PositionLogprobs> next);
  bool is_done() const { return is_done_; }
  /// The best of the finished beams, best first; num_beams of them once the search is done.
  const std::vector<Beam>& finished() const { return finished_; }

 private:
  struct Candidate {
    size_t beam = 0;  ///< index into running_
    TokenLogprob next;
    float sum = 0;
    FinishReason finish_reason = FinishReason::kNone;
  };

  int num_kept() const;
  std::vector<Candidate> BestCandidates(std::span<const PositionLogprobs> next) const;
  FinishReason ReasonToFinish(TokenId token) const;
  Beam Extended(const Candidate& candidate, std::span<const PositionLogprobs> next) const;
  bool CanImprove() const;

  size_t num_beams_;
  float length_penalty_;
  EarlyStopping early_stopping_;
  int min_tokens_;
  std::vector<TokenId> end_tokens_;
  int max_tokens_;
  int length_ = 0;  ///< tokens of every running beam
  std::vector<Beam> running_;
  std::vector<Beam> finished_;
  bool is_done_ = false;
};

}  // namespace gale
