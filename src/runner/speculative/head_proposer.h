// Guesses with a head that reads the target's states: EAGLE-3 (arXiv:2503.01840), or a model's own
// layer for multi-token prediction (arXiv:2412.19437). Layer L4; on the device, from states.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "models/draft_head.h"
#include "runner/sampler.h"
#include "runner/speculative/draft_proposer.h"
#include "runner/speculative/target_states.h"

namespace gale {

/// A row of the head is a state of the target and the token behind it, so the latest state waits in
/// TargetStates until its token is known. Prompts are taken in as the target computes them. A draft
/// begins with the rows that the step before has added; each further row is the token drawn last
/// and the head's own output, which never leave the device.
///
/// A cached prefix brings the head's keys with it; of its last row the token may have been another.
class HeadProposer : public DraftProposer {
 public:
  explicit HeadProposer(std::unique_ptr<DraftHead> head) : head_(std::move(head)) {}

  std::vector<AttentionGroup> attention_groups() const override {
    return head_->attention_groups();
  }
  std::span<const int> captured_layers() const override { return head_->captured_layers(); }
  bool observes() const override { return true; }
  size_t DeviceBytes(const StepLimits& limits) const override;
  Status Allocate(const DraftDevice& device) override;
  int32_t Grade(const RunnerSequence& seq) override;
  Status Propose(std::span<DraftTask> tasks) override;
  Status Observe(const TargetRows& rows) override;
  void Forget(const RunnerSequence& seq) override;

 private:
  /// The arrays of one pass; those that are enqueued together have their own.
  struct Pass {
    Pass(StagedBlock& staged_arrays, StagedBlock& staged_tables, const DraftDevice& device,
         const StepLimits& limits, int vocab_size);
    void Clear();

    StagedBlock arrays;
    StagedBlock tables;
    InputBatch input;
    Sampler sampler;
    StagedArray<int32_t> sources;  ///< [rows]: where each row's state is
  };
  /// What the head has of the sequence in a slot.
  struct Progress {
    const RunnerSequence* seq = nullptr;
    int32_t num_computed = 0;
    bool is_lost = false;  ///< some states were not kept
  };

  int64_t num_planes() const { return std::max<int64_t>(1, std::ssize(head_->captured_layers())); }
  int VocabSize() const;
  int LogitsTile() const;
  StepLimits PassLimits(bool draws) const;
  TensorView HiddenRows(const Buffer& buffer, int64_t rows) const;
  void AddKept(Pass& pass, const Progress& progress, int32_t end);
  void Absorb(Pass& pass, const TensorView& planes);
  void CatchUp();
  void Upload(Pass& pass, ForwardBatch& batch);
  void Run(Pass& pass, const ForwardBatch& batch, const TensorView& hidden);
  void Draw(Pass& pass);

  std::unique_ptr<DraftHead> head_;
  DraftDevice device_;
  SequenceTables draft_tables_;  ///< last_tokens alone: drafts enter no history here
  TargetStates states_;
  ForwardContext context_;
  ScratchArena scratch_;
  Buffer gathered_;   ///< [max rows, planes * hidden]
  Buffer hidden_[2];  ///< [max rows, hidden]: of this pass and the one before
  Buffer embedded_;   ///< [max rows, hidden]
  Buffer draw_rows_;  ///< [max seqs, hidden]
  Buffer logits_;     ///< f32 [logits tile, vocab]
  std::vector<std::unique_ptr<Pass>> passes_;  ///< [draft]
  /// For rows that nothing is drawn from, by turns, since two steps may be in flight: of prompts,
  /// and of states that have been kept for long.
  std::unique_ptr<Pass> prompt_passes_[2];
  std::unique_ptr<Pass> kept_passes_[2];
  uint64_t num_observed_ = 0;
  std::vector<Progress> progress_;  ///< [slot]
};

}  // namespace gale
