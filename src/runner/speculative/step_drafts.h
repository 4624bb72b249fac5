// The drafts of one step, from the proposer to the comparison with what was drawn. Layer L4; owned
// by ModelRunner, one for each step in flight.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runner/speculative/draft_proposer.h"

namespace gale {

class StepDrafts {
 public:
  /// The memory that drafts made on the device are read back to.
  Status Allocate(Backend& backend, const StepLimits& limits);

  void Clear();
  bool empty() const { return drafts_.empty(); }
  /// The step's `index`-th sequence is to be speculated on; indices ascend.
  void Add(size_t index, const RunnerSequence& seq, int32_t num_tokens);
  /// Has `proposer` guess for all of them, and writes the guesses into the histories of those whose
  /// logits depend on what was said.
  Status Propose(DraftProposer& proposer, Backend& backend, Stream& stream,
                 const SequenceTables& tables);

  /// What to compute behind the tokens of the step's `index`-th sequence: ids, or ~DraftIndex.
  std::span<const int32_t> Ids(size_t index) const;
  /// How many of those are right, once the step is over: `drawn`, from one row more, has them.
  int32_t NumRight(size_t index, std::span<const TokenId> drawn) const;

 private:
  struct Draft {
    size_t index = 0;
    int32_t slot = 0;
    std::vector<int32_t> ids;
  };
  const Draft* Find(size_t index) const;

  std::vector<DraftTask> tasks_;
  std::vector<Draft> drafts_;  ///< of the tasks
  int32_t max_draft_tokens_ = 0;
  Buffer read_back_;  ///< i32 [slots, max_draft_tokens], pinned
};

}  // namespace gale
