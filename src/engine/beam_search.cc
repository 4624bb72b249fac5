#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gale {
namespace {

constexpr int kMaxAlternatives = 20;  // SamplingParams::Validate's bound on `logprobs`

}  // namespace

BeamSearch::BeamSearch(const SamplingParams& sampling, std::vector<TokenId> end_tokens,
                       int max_tokens)
    : num_beams_(static_cast<size_t>(sampling.num_beams)),
      length_penalty_(sampling.length_penalty),
      early_stopping_(sampling.early_stopping),
      min_tokens_(sampling.min_tokens),
      end_tokens_(std::move(end_tokens)),
      max_tokens_(max_tokens),
      running_(1) {
  GALE_CHECK_GE(max_tokens, 1);
}

/// Candidates of a step that count. Were num_beams of them end tokens for each end token there is,
/// as many would be left to go on with.
int BeamSearch::num_kept() const {
  return std::max(2, 1 + static_cast<int>(end_tokens_.size())) * static_cast<int>(num_beams_);
}

int BeamSearch::num_alternatives() const { return std::min(num_kept(), kMaxAlternatives); }

FinishReason BeamSearch::ReasonToFinish(TokenId token) const {
  if (std::ranges::find(end_tokens_, token) != end_tokens_.end()) return FinishReason::kStop;
  return length_ + 1 >= max_tokens_ ? FinishReason::kLength : FinishReason::kNone;
}

std::vector<BeamSearch::Candidate> BeamSearch::BestCandidates(
    std::span<const PositionLogprobs> next) const {
  std::vector<Candidate> candidates;
  for (size_t beam = 0; beam < running_.size(); ++beam) {
    for (const TokenLogprob& token : next[beam].top) {
      const FinishReason reason = ReasonToFinish(token.token);
      if (reason == FinishReason::kStop && length_ < min_tokens_) continue;
      candidates.push_back({beam, token, running_[beam].sum + token.logprob, reason});
    }
  }
  std::ranges::stable_sort(candidates, std::greater(), &Candidate::sum);
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(num_kept())));
  return candidates;
}

Beam BeamSearch::Extended(const Candidate& candidate,
                          std::span<const PositionLogprobs> next) const {
  Beam beam = running_[candidate.beam];
  beam.parent = candidate.beam;
  beam.tokens.push_back(candidate.next.token);
  beam.logprobs.push_back({.chosen = candidate.next, .top = next[candidate.beam].top});
  beam.sum = candidate.sum;
  beam.score = candidate.sum / std::pow(static_cast<float>(length_ + 1), length_penalty_);
  beam.finish_reason = candidate.finish_reason;
  return beam;
}

void BeamSearch::Advance(std::span<const PositionLogprobs> next) {
  GALE_CHECK_EQ(next.size(), running_.size());
  const std::vector<Candidate> candidates = BestCandidates(next);
  std::vector<Beam> going_on;
  for (size_t rank = 0; rank < candidates.size(); ++rank) {
    const Candidate& candidate = candidates[rank];
    if (candidate.finish_reason == FinishReason::kNone) {
      if (going_on.size() < num_beams_) going_on.push_back(Extended(candidate, next));
    } else if (rank < num_beams_) {  // the others would not have gone on either
      finished_.push_back(Extended(candidate, next));
    }
  }
  std::ranges::stable_sort(finished_, std::greater(), &Beam::score);
  if (finished_.size() > num_beams_) finished_.resize(num_beams_);
  running_ = std::move(going_on);
  ++length_;
  const bool is_full = finished_.size() == num_beams_;
  is_done_ =
      running_.empty() || (is_full && (early_stopping_ == EarlyStopping::kYes || !CanImprove()));
}

/// Whether the best running beam could still beat the worst finished one. With kNo the length that
/// it may come to is not looked at, which is a heuristic where length_penalty is above 0.
bool BeamSearch::CanImprove() const {
  const bool looks_ahead = early_stopping_ == EarlyStopping::kNever && length_penalty_ > 0;
  const auto length = static_cast<float>(looks_ahead ? max_tokens_ : length_);
  return running_[0].sum / std::pow(length, length_penalty_) > finished_.back().score;
}

}  // namespace gale
