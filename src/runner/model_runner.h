// Runs a step: applies the scheduler's plan to what this rank knows of the sequences, builds the
// input batch, enqueues the model and the draws, and reads the tokens back later. Layer L4; driven
// by an Executor.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/model.h"
#include "runner/executor.h"
#include "runner/graph_runner.h"
#include "runner/input_batch.h"
#include "runner/kv_group_runtime.h"
#include "runner/pooled_states.h"
#include "runner/sampler.h"
#include "runner/speculative/draft_proposer.h"
#include "runner/speculative/step_drafts.h"

namespace gale {

/// Forward, Sample and Collect, each once a step and in step order; Forward n + 1 and Sample n + 1
/// may come before Collect n, so that the device goes from step to step without the host. What the
/// host fills for a step exists twice, and is uploaded on a stream of its own while the step before
/// runs; a token that step n draws reaches step n + 1 on the device (`last_tokens`).
/// Not thread-safe.
class ModelRunner {
 public:
  /// All outlive the runner. `groups` are the model's, and behind them those of a proposer. `fused`
  /// may be null; it is used wherever it supports a step.
  static Result<std::unique_ptr<ModelRunner>> Create(Backend& backend, Model& model,
                                                     std::span<KvGroupRuntime> groups,
                                                     FusedDecoder* fused, const StepLimits& limits);

  /// The pool's memory: u8 [num_blocks, row bytes]; the host's has rows of the same size, and none
  /// if it is empty. Once, before the first Forward.
  void BindPool(TensorView pool, TensorView host_pool);
  /// What guesses the drafts that plans ask for; it outlives the runner. Once, behind BindPool.
  /// Errors: those of DraftProposer::Allocate.
  Status UseProposer(DraftProposer& proposer);

  /// Forgets, copies blocks, learns, builds the batch and enqueues the layers. An error is kept for
  /// Collect.
  void Forward(const SchedulerOutput& plan);
  /// Enqueues logits, draws and log-probabilities of the step that Forward enqueued last.
  void Sample(const SamplingInputs& inputs);
  /// Waits until the device has done the step, at most limits.timeout_s; meanwhile captures the
  /// graphs that recent steps have done without.
  /// Errors: kDevice, kResourceExhausted, kInternal; the step's sequences are then forgotten.
  Result<ModelRunnerOutput> Collect(uint64_t step);

  /// Captures one graph of those that are still to be captured. False: there is none.
  bool CaptureNextGraph() {
    return !lost_ && (graphs_.CaptureNext() || layer_graphs_.CaptureNext());
  }

  /// The device has not answered in time. No step runs any more, and nothing that belongs to the
  /// device can be given back: the driver would wait for it.
  bool is_device_lost() const { return lost_.has_value(); }

  /// Device memory that a runner of these limits takes, the model's scratch included.
  static size_t DeviceBytes(const Model& model, std::span<const KvGroupRuntime> groups,
                            const StepLimits& limits);

 private:
  /// All that belongs to one step; two of them take turns.
  struct Step {
    Step(StagedBlock& arrays, StagedBlock& tables, const Model& model, const StepLimits& limits,
         std::span<const KvGroupRuntime> groups);
    /// One with memory.
    static Result<std::unique_ptr<Step>> Create(Backend& backend, const Model& model,
                                                const StepLimits& limits,
                                                std::span<const KvGroupRuntime> groups);
    void Begin(const SchedulerOutput& plan);

    StagedBlock arrays;
    StagedBlock tables;
    SequenceTables::Sources sources;  ///< of sequences that this step begins with
    InputBatch input;
    Sampler sampler;
    PooledStates pooled;
    StepDrafts drafts;
    std::vector<TargetRows::Part> parts;  ///< for a proposer that observes
    std::unique_ptr<Event> uploaded;
    std::unique_ptr<Event> drafting;  ///< from here on, if there are drafts
    std::unique_ptr<Event> begun;
    double propose_s = 0;  ///< of the host

    uint64_t number = 0;
    bool in_flight = false;      ///< between Forward and Collect
    bool is_overlapped = false;  ///< the step before was in flight when this one was enqueued
    Status status;               ///< an error ends the step before it is enqueued
    StepKind kind = StepKind::kLayers;
    std::vector<SeqId> ids;
    ForwardBatch batch;
    bool all_drawn = false;    ///< draw i is from row i, and there are no other rows
    int graph_bucket = 0;      ///< of a kGraph: rows are padded to it
    bool whole_graph = false;  ///< the graph holds head and draws too
  };

  ModelRunner(Backend& backend, Model& model, std::span<KvGroupRuntime> groups, FusedDecoder* fused,
              const StepLimits& limits);
  Status Allocate();

  Status Learn(const ScheduledSeq& scheduled, Step& step);
  void Forget(SeqId id);
  void Swap(const SchedulerOutput& plan);
  void CopyBlocks(Stream& stream, const std::vector<BlockCopy>& copies, const TensorView& to,
                  const TensorView& from);
  Status BuildBatch(const SchedulerOutput& plan, Step& step);
  Status ProposeDrafts(const SchedulerOutput& plan, Step& step);
  void ChooseKind(Step& step);
  void ChooseGraph(Step& step);
  void AddRows(const ScheduledSeq& scheduled, RunnerSequence& seq, size_t index, Step& step);
  Status ShowRows(const Step& step);
  LayerCapture Capture(int64_t rows) const;
  void Upload(Step& step);
  void RunFused(const Step& step);
  void RunLayers(const ForwardBatch& batch);
  void EnqueueGraphLayers(int rows, int num_seqs, int slot);
  void EnqueueGraphStep(int rows, int slot);
  TensorView HiddenRows(int64_t begin, int64_t end) const;
  TensorView Logits(int64_t begin, int64_t end) const;
  int LogitsTile(const Step& step) const;
  /// Copies hidden rows, i32 [n], side by side.
  TensorView Gather(const Step& step, const TensorView& rows);
  TensorView ComputeLogits(const TensorView& hidden_rows);
  void EnqueueDraws(Step& step, const SamplingInputs& inputs);
  void EnqueueScores(Step& step);
  /// Sequences of a graph for so many tokens, of which one sequence has two or more.
  int ChunkSeqs(int num_tokens) const { return std::clamp(num_tokens - 1, 1, limits_.max_seqs); }
  int SlotOf(const Step& step) const { return static_cast<int>(step.number % steps_.size()); }
  Event& EndOf(uint64_t step) { return *ends_[step % ends_.size()]; }
  Status WaitFor(const Step& step);
  bool CaptureMissed(int num_missed) {
    return graphs_.CaptureMissed(num_missed) || layer_graphs_.CaptureMissed(num_missed);
  }
  ModelRunnerOutput ReadOutput(const Step& step);
  void ReadDraws(const Step& step, size_t begin, size_t end, SeqOutput& output);
  void ReadTimes(const Step& step, ModelRunnerOutput& output);

  Backend& backend_;
  Model& model_;
  std::span<KvGroupRuntime> all_groups_;  ///< a proposer's too
  std::span<KvGroupRuntime> groups_;      ///< of the model
  FusedDecoder* fused_;
  DraftProposer* proposer_ = nullptr;
  StepLimits limits_;
  std::string device_name_;
  int max_logits_rows_;

  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Stream> copy_stream_;
  ScratchArena scratch_;
  ForwardContext context_;
  TensorView pool_;
  TensorView host_pool_;
  Buffer hidden_;         ///< [max tokens, hidden]
  Buffer captured_;       ///< [captured layers, max tokens, hidden]
  Buffer logits_hidden_;  ///< [max logits rows, hidden]
  Buffer logits_;         ///< f32 [max logits rows, vocab]
  SequenceTables tables_;

  std::unordered_map<SeqId, RunnerSequence> sequences_;
  std::vector<int32_t> free_slots_;  ///< of tables_
  std::array<std::unique_ptr<Step>, 2> steps_;
  std::array<std::unique_ptr<Event>, 4> ends_;  ///< of the last steps
  GraphRunner graphs_;                          ///< of whole steps of one token a sequence
  GraphRunner layer_graphs_;  ///< of the layers alone, for steps with a chunk of a prompt
  Step* current_ = nullptr;   ///< between Forward and Sample
  std::optional<Error> lost_;
};

}  // namespace gale
