// Guesses with a smaller model of the same vocabulary (arXiv:2211.17192), whose KV blocks come from
// the target's pool. Layer L4; on the device, from tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "runner/sampler.h"
#include "runner/speculative/draft_proposer.h"

namespace gale {

/// k tokens take k passes: the first over the tokens that the draft has not seen, mostly the one or
/// two that the target added, the others over the token drawn last, which never leaves the device.
/// What it has not seen for longer, a prompt at first, it catches up with in chunks. A cached
/// prefix it takes as it is, as far as it has computed those blocks for those tokens itself.
class DraftModel : public DraftProposer {
 public:
  explicit DraftModel(std::unique_ptr<Model> model) : model_(std::move(model)) {}

  std::vector<AttentionGroup> attention_groups() const override {
    return model_->attention_groups();
  }
  size_t DeviceBytes(const StepLimits& limits) const override;
  Status Allocate(const DraftDevice& device) override;
  Status Propose(std::span<DraftTask> tasks) override;
  void Forget(const RunnerSequence& seq) override;

 private:
  /// The arrays of one pass. Each of a draft's passes has its own: all are enqueued at once.
  struct Pass {
    Pass(StagedBlock& staged_arrays, StagedBlock& staged_tables, const DraftDevice& device,
         const StepLimits& limits, int vocab_size);
    void Clear();

    StagedBlock arrays;
    StagedBlock tables;
    InputBatch input;
    Sampler sampler;
  };
  /// What the draft has of the sequence in a slot.
  struct Progress {
    bool is_known = false;
    int32_t num_computed = 0;
    int32_t num_hashed = 0;  ///< whole blocks of tokens
    uint64_t hash = 0;       ///< of those
  };

  static StepLimits PassLimits(const StepLimits& limits, bool first);
  Progress& ProgressOf(const RunnerSequence& seq);
  template <class Visit>
  void HashBlocks(const RunnerSequence& seq, Progress& progress, int32_t end, Visit visit);
  Status CatchUp(std::span<DraftTask> tasks);
  void AddDraws(Pass& pass, std::span<DraftTask> tasks, int32_t draft);
  void Run(Pass& pass, const ForwardBatch& batch);
  void Draw(Pass& pass);
  bool RunFused(Pass& pass, const ForwardBatch& batch);
  ForwardBatch BatchOf(Pass& pass) const;
  TensorView Logits(int64_t rows) const;

  std::unique_ptr<Model> model_;
  std::unique_ptr<FusedDecoder> fused_;  ///< may be null
  DraftDevice device_;
  SequenceTables draft_tables_;  ///< last_tokens alone: drafts enter no history here
  ForwardContext context_;
  ScratchArena scratch_;
  Buffer hidden_;                                      ///< [max rows, hidden]
  Buffer draw_hidden_;                                 ///< [max seqs, hidden]
  Buffer logits_;                                      ///< f32 [logits rows, vocab]
  std::vector<std::unique_ptr<Pass>> passes_;          ///< [draft]
  std::vector<Progress> progress_;                     ///< [slot]
  std::unordered_map<BlockId, uint64_t> block_texts_;  ///< hash of the tokens up to the block's end
};

}  // namespace gale
