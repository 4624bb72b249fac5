// Guesses that what followed the last few tokens when they came before, in the prompt or in the
// text, follows them again. Layer L4; on the host, from tokens alone.
#pragma once

#include <span>
#include <vector>

#include "runner/speculative/draft_proposer.h"
#include "runner/speculative/suffix_automaton.h"

namespace gale {

/// Prompt lookup (A. Saxena 2023; arXiv:2304.04487 has the like) for the longest end of the text
/// that has come before, however long. Its length is what the grade tells.
class NgramProposer : public DraftProposer {
 public:
  Status Allocate(const DraftDevice& device) override;
  int32_t Grade(const RunnerSequence& seq) override;
  Status Propose(std::span<DraftTask> tasks) override;
  void Forget(const RunnerSequence& seq) override;

 private:
  SuffixAutomaton::Match Match(const RunnerSequence& seq);

  std::vector<SuffixAutomaton> texts_;  ///< [slot]
};

}  // namespace gale
