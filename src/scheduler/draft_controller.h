// Says how many tokens of which sequences a step speculates on: as many as promise the most tokens
// a second, by measured times and by the drafts that were right so far. Layer L3; owned by the
// Scheduler. Nothing that it decides alters a token (runner/speculative/README.md).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/row_times.h"
#include "scheduler/scheduler_output.h"

namespace gale {

struct DraftStats {
  uint64_t drafts = 0;  ///< of one sequence in one step
  uint64_t draft_tokens = 0;
  uint64_t accepted_tokens = 0;
  double saved_s = 0;  ///< what the tokens would have taken without, less what they took
};

class DraftController {
 public:
  /// `max_tokens` 0: never. Not `adaptive`: always as many as that, wherever there is a draft.
  DraftController(int max_tokens, bool adaptive) : max_tokens_(max_tokens), adaptive_(adaptive) {}

  bool is_on() const { return max_tokens_ > 0; }
  /// Sets draft.num_tokens of all sequences that may decode in the next step, to at most `max_rows`
  /// in sum. True: there are some to speculate on. Cost: O(drafts * log drafts).
  bool Plan(std::span<Sequence* const> decodes, int max_rows);
  /// Learns from a collected step.
  void Observe(const SchedulerOutput& plan, const ModelRunnerOutput& output);
  /// Learns from what the step brought one of its sequences, and takes in its next grade.
  void Absorb(Sequence& seq, const SeqOutput& output);

  const DraftStats& stats() const { return stats_; }

 private:
  /// Drafts of one grade, older ones faded.
  struct Grade {
    double num_right = 0;
    double num_wrong = 0;
  };
  struct Choice {
    double probability = 0;  ///< that this draft is right and all before it
    int32_t depth = 0;       ///< counts from 1
    Sequence* seq = nullptr;
  };

  int32_t MostTokens(const Sequence& seq) const;
  double GradeRate(int32_t grade) const;
  double Rate(const Sequence& seq) const;
  size_t BestCount(size_t num_decodes);

  int max_tokens_;
  bool adaptive_;
  std::array<Grade, 8> grades_;
  RowTimes step_times_;   ///< by rows of a step of decodes, its drafting left out
  RowTimes draft_times_;  ///< of one more draft of all, by sequences with drafts
  std::vector<Choice> choices_;
  bool catches_up_ = false;  ///< the last plan has drafts of sequences that had none before
  DraftStats stats_;
};

}  // namespace gale
