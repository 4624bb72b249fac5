// A test double for `gale bench speculative`: does all the work of a real proposer, and then says
// as many right tokens as it is told to, from texts that the target has said before.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "runner/speculative/draft_proposer.h"

namespace gale {

/// What the target says after each prompt, and how many guesses are to be right. Written while the
/// engine is idle.
struct DraftScript {
  std::map<std::vector<TokenId>, std::vector<TokenId>> replies;  ///< [prompt]
  std::atomic<double> acceptance = 0;  ///< chance of each token, one by one
};

/// Drafts, the check of every row, the draws and the taking back are those of the engine; only
/// which tokens are checked is made up.
class ScriptedProposer : public DraftProposer {
 public:
  ScriptedProposer(std::unique_ptr<DraftProposer> proposer, const DraftScript& script)
      : proposer_(std::move(proposer)), script_(script) {}

  std::vector<AttentionGroup> attention_groups() const override {
    return proposer_->attention_groups();
  }
  std::span<const int> captured_layers() const override { return proposer_->captured_layers(); }
  bool observes() const override { return proposer_->observes(); }
  size_t DeviceBytes(const StepLimits& limits) const override {
    return proposer_->DeviceBytes(limits);
  }
  Status Allocate(const DraftDevice& device) override {
    vocab_size_ = device.target->vocab_size();
    return proposer_->Allocate(device);
  }
  Status Propose(std::span<DraftTask> tasks) override;
  Status Observe(const TargetRows& rows) override { return proposer_->Observe(rows); }
  void Forget(const RunnerSequence& seq) override { proposer_->Forget(seq); }

 private:
  void Rewrite(DraftTask& task, int32_t wanted) const;

  std::unique_ptr<DraftProposer> proposer_;
  const DraftScript& script_;
  int vocab_size_ = 0;
};

}  // namespace gale
