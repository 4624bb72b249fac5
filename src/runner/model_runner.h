// Runs a step: applies the scheduler's plan to what this rank knows of the sequences, builds the
// input batch, runs the model and draws the tokens. Layer L4; driven by an Executor's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "models/model.h"
#include "runner/executor.h"
#include "runner/input_batch.h"
#include "runner/sampler.h"

namespace gale {

/// One group of layers with its attention and its view of the block pool.
struct KvGroupRuntime {
  std::unique_ptr<AttentionBackend> attention;
  int block_tokens = 0;
  size_t bytes_per_block = 0;
};

/// Forward, then Sample, once a step; the sequences' drawn tokens stay here, so that the next
/// step's Forward needs nothing from the host. Not thread-safe.
class ModelRunner {
 public:
  /// `backend`, `model` and `groups` outlive the runner.
  static Result<std::unique_ptr<ModelRunner>> Create(Backend& backend, Model& model,
                                                     std::span<KvGroupRuntime> groups,
                                                     const StepLimits& limits);

  /// The pool's memory: u8 [num_blocks, row bytes]. Once, before the first Forward.
  void BindPool(TensorView pool) { pool_ = pool; }

  /// Forgets, copies blocks, learns, builds the batch and runs the layers.
  /// Errors: kDevice; the sequences of the step are then forgotten.
  Status Forward(const SchedulerOutput& plan);
  /// Logits, draws and log-probabilities of the step that Forward ran last.
  Result<ModelRunnerOutput> Sample(const SamplingInputs& inputs);

  /// Device memory that a runner of these limits takes, the model's scratch included.
  static size_t DeviceBytes(const Model& model, const StepLimits& limits);

 private:
  ModelRunner(Backend& backend, Model& model, std::span<KvGroupRuntime> groups);

  Status Learn(const ScheduledSeq& scheduled);
  void CopyBlocks(const std::vector<BlockCopy>& copies);
  void AddRows(const ScheduledSeq& scheduled, const RunnerSequence& seq, size_t index);
  void RunLayers();
  /// Computes the logits of `rows`, at most max_logits_rows_ of them.
  TensorView ComputeLogits(std::span<const LogitsRow> rows);
  Status DrawTokens(const SamplingInputs& inputs, ModelRunnerOutput& output);
  Status ScorePrompts(ModelRunnerOutput& output);
  std::vector<const RunnerSequence*> SequencesOf(std::span<const LogitsRow> rows) const;
  void ForgetStep();

  Backend& backend_;
  Model& model_;
  std::span<KvGroupRuntime> groups_;
  TensorView pool_;
  std::unique_ptr<Stream> stream_;
  ScratchArena scratch_;
  ForwardContext context_;
  InputBatch batch_;
  Sampler sampler_;
  int max_logits_rows_ = 0;
  StagedArray<int32_t> logits_rows_;
  Buffer hidden_;         ///< [max tokens, hidden]
  Buffer logits_hidden_;  ///< [max logits rows, hidden]
  Buffer logits_;         ///< f32 [max logits rows, vocab]

  std::unordered_map<SeqId, RunnerSequence> sequences_;

  /// The step between Forward and Sample.
  uint64_t step_ = 0;
  std::vector<SeqId> step_ids_;
  std::vector<RunnerSequence*> step_seqs_;
  std::vector<LogitsRow> draw_rows_;
  std::vector<LogitsRow> score_rows_;
};

}  // namespace gale
