// Decides what every step computes, and follows every sequence from arrival to its one end. Layer
// L3 of the control column; called on the engine thread only. Stops 3 and 9 of the request path.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "kv_cache/kv_cache_manager.h"
#include "request/sequence.h"
#include "scheduler/admission_policy.h"
#include "scheduler/draft_controller.h"
#include "scheduler/fair_shares.h"
#include "scheduler/request_queue.h"
#include "scheduler/scheduler_output.h"
#include "scheduler/sequence_update.h"
#include "scheduler/sequence_work.h"
#include "scheduler/step_time_model.h"
#include "scheduler/waiting_line.h"

namespace gale {

struct SchedulerConfig {
  int max_num_seqs = 64;             ///< sequences that hold blocks
  int max_num_batched_tokens = 512;  ///< positions of one step
  int max_model_len = 2048;          ///< prompt + generated tokens of one sequence
  int max_draft_tokens = 0;          ///< speculated per decode; the proposer is in the runner
  bool adaptive_drafts = true;       ///< as in SpeculativeConfig
  Fairness fairness = Fairness::kNone;
  int first_turn_tokens = 64;   ///< generated; short ones give way more often
  double max_step_stretch = 0;  ///< as in EngineConfig
  double host_bytes_per_s = 0;  ///< between the KV pool and its host blocks; 0: unknown
};

struct SchedulerStats {
  int running_seqs = 0;
  int waiting_seqs = 0;  ///< those that wait for their request's sample 0 included
  uint64_t steps = 0;
  uint64_t prompt_tokens = 0;  ///< of prompts, computed (again, after a preemption)
  uint64_t cached_tokens = 0;  ///< of prompts, read from the prefix cache at first admission
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t swapped_out_blocks = 0;  ///< of evicted prefixes, to the host
  uint64_t swapped_in_blocks = 0;
  DraftStats drafts;
};

/// The synchronous loop: plan = Schedule(); execute; Update(plan, output).
/// The overlapped loop: plan n + 1 is scheduled and launched before Update(plan n): a decode is
/// then scheduled while the token it starts from is still being drawn, and a stop token is seen one
/// step late (the surplus token is dropped). Length stops are known beforehand and waste nothing.
///
/// A step that speculates is planned only when none is in flight: where its drafts begin, and how
/// far it comes, is known to those who have the tokens.
///
/// Every step serves running sequences in the policy's order, decodes out of a reserved share of
/// the budget and prompts from the rest, in chunks; then admits waiting ones. Where there is no
/// place for those, running ones whose turn is over make it. When blocks run out, the last in order
/// gives up its blocks; what it has computed stays in the prefix cache, in host memory if need be,
/// as long as there is room, and is computed again else. The first in order always gets on. Tokens
/// that were being drawn for a preempted sequence are kept when they arrive, and it is not admitted
/// before: no position is ever sampled twice.
class Scheduler {
 public:
  /// kv.max_step_tokens is taken from `config`.
  Scheduler(const SchedulerConfig& config, KvCacheConfig kv,
            std::unique_ptr<AdmissionPolicy> policy = MakePriorityPolicy());

  /// Takes a validated request: 1 <= prompt tokens <= max_model_len. It ends, whatever happens, in
  /// exactly one update with a finish_reason for each of its n samples.
  void Add(std::shared_ptr<const Request> request);
  /// The next step; `seqs` is empty when nothing can run before a step in flight is collected, or
  /// when there is no work. Such a plan is dropped: it takes no step number, and what else it would
  /// have told comes with the next. `now_s`: the engine's clock, handed back in updates.
  /// Cost: O(sequences + blocks given); 256 running and 1,024 waiting take tens of microseconds.
  SchedulerOutput Schedule(double now_s = 0);
  /// Takes in a collected step; steps are collected in order. Returns TakeUpdates().
  std::vector<SequenceUpdate> Update(const SchedulerOutput& plan, ModelRunnerOutput output);
  /// The step could not be executed: every sequence that holds blocks ends with `error` and every
  /// cached prefix is forgotten, since some of them may lack what the step should have moved.
  /// Returns TakeUpdates().
  std::vector<SequenceUpdate> Fail(const SchedulerOutput& plan, const Error& error);
  /// The output side ends a sequence (a stop string). Ignored when it has ended already.
  void Finish(SeqId id, FinishReason reason);
  /// A sequence of a stepwise request waits, once a token has been drawn and reported, until it is
  /// told to go on with `token` in its place. Meanwhile it keeps its blocks, unless others need
  /// them.
  void Continue(SeqId id, TokenId token);
  /// A new sequence that goes on with `token` where `parent`, which waits, has its last one. It
  /// shares the parent's blocks; only the last one, partly filled, is copied.
  SeqId Branch(SeqId parent, TokenId token);
  /// News that no Update has returned yet: cancelled and failed sequences. To be called when
  /// Schedule gave nothing to run.
  std::vector<SequenceUpdate> TakeUpdates();

  bool HasWork() const { return !sequences_.empty(); }
  SchedulerStats stats() const;
  const KvCacheManager& kv_cache() const { return kv_; }

 private:
  void EndCancelledAndLate();
  void EndTurns();
  int64_t RoomToKeep() const;
  bool PlanDrafts();
  void ScheduleRunning(SchedulerOutput& plan);
  void LimitChunks(const StepLoad& decodes, double prompts_per_decode, int chunk_begin);
  void Serve(SchedulerOutput& plan, Sequence& seq, SequenceWork work, int chunk_budget);
  void ForkSamples(Sequence& parent);
  bool MakeRoom(Sequence& seq, int num_new);
  bool PreemptHeld();
  void Preempt(Sequence& seq);
  void Admit(SchedulerOutput& plan);
  bool AdmitFirst(SchedulerOutput& plan);
  bool Start(SchedulerOutput& plan, Sequence& seq, int most_tokens);
  void Emit(SchedulerOutput& plan, Sequence& seq, const SequenceWork& work);
  void TakeMoves(SchedulerOutput& plan);
  void AddBlocks(ScheduledSeq& scheduled, const Sequence& seq) const;

  void LearnTimes(const SchedulerOutput& plan, const ModelRunnerOutput& output);
  void Absorb(const ScheduledSeq& scheduled, uint64_t step, SeqOutput output);
  void End(Sequence& seq, FinishReason reason, std::optional<Error> error = {});
  void End(Sequence& seq, SequenceUpdate last);
  Sequence* FindSequence(SeqId id);

  SchedulerConfig config_;
  std::unique_ptr<AdmissionPolicy> policy_;
  KvCacheManager kv_;
  const std::vector<KvGroup> groups_;
  FairShares shares_;
  StepTimeModel step_times_;
  DraftController drafts_;
  std::unordered_map<SeqId, std::unique_ptr<Sequence>> sequences_;  ///< all that have not ended
  RequestQueue running_;
  WaitingLine waiting_;
  SeqId next_id_ = 1;
  uint64_t step_ = 0;            ///< the last one planned
  uint64_t collected_ = 0;       ///< the last one collected
  bool is_speculating_ = false;  ///< the last one planned

  // Of the step being scheduled:
  double now_s_ = 0;
  int budget_ = 0;            ///< tokens left
  int decode_reserve_ = 0;    ///< of these, for decodes not reached yet
  bool out_of_room_ = false;  ///< somebody waits for blocks: nobody behind may take any
  bool has_preempted_ = false;
  bool lacks_place_ = false;         ///< in the last one, somebody who waits found no place
  std::vector<size_t> table_sizes_;  ///< [kv group], before the slots were allocated

  std::vector<SeqId> finished_;  ///< to be told to the runner
  std::vector<SeqId> preempted_;
  std::vector<SequenceUpdate> updates_;
  SchedulerStats stats_;
};

}  // namespace gale
