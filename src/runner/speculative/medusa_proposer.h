// Guesses several tokens at once from the target's last state, with one Medusa head for each
// (arXiv:2401.10774). Layer L4; on the device, from states.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "models/medusa_heads.h"
#include "runner/sampler.h"
#include "runner/speculative/draft_proposer.h"
#include "runner/speculative/target_states.h"

namespace gale {

/// The state that the target drew its last token from is behind the token before; head i says what
/// comes 2 + i behind that.
class MedusaProposer : public DraftProposer {
 public:
  explicit MedusaProposer(std::unique_ptr<MedusaHeads> heads) : heads_(std::move(heads)) {}

  bool observes() const override { return true; }
  size_t DeviceBytes(const StepLimits& limits) const override;
  Status Allocate(const DraftDevice& device) override;
  Status Propose(std::span<DraftTask> tasks) override;
  Status Observe(const TargetRows& rows) override;
  void Forget(const RunnerSequence& seq) override { states_.DropFrom(seq.slot, 0); }

 private:
  int LogitsTile() const;
  TensorView Rows(const Buffer& buffer, int64_t rows) const;
  void Draw(int head);

  std::unique_ptr<MedusaHeads> heads_;
  DraftDevice device_;
  SequenceTables draft_tables_;  ///< last_tokens alone: drafts enter no history here
  TargetStates states_;
  ForwardContext context_;
  ScratchArena scratch_;
  Buffer gathered_;   ///< [max seqs, hidden]: of each task
  Buffer draw_rows_;  ///< [max seqs, hidden]: of each draw
  Buffer logits_;     ///< f32 [logits tile, vocab]
  /// The arrays of a draft, of which every head has its own draws.
  struct Arrays {
    StagedBlock block;
    StagedBlock masks;
    StagedArray<int32_t> sources;  ///< [tasks]
  } arrays_;
  std::vector<Sampler> samplers_;  ///< [head]
};

}  // namespace gale
