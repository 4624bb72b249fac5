// The planning half of the scheduler. Stop 3 of the request path.
#include "scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"

namespace gale {
namespace {

KvCacheConfig WithStepTokens(KvCacheConfig kv, int max_step_tokens) {
  kv.max_step_tokens = max_step_tokens;
  return kv;
}

Error DoesNotFit(const KvCacheManager& kv, int num_tokens) {
  return {
      ErrorCode::kResourceExhausted,
      fmt::format("the KV cache is too small for this sequence: {} tokens take {} blocks, the "
                  "cache has {}; use a shorter prompt, a smaller max_tokens or a larger KV cache",
                  num_tokens, kv.BlocksToHold(num_tokens), kv.num_total())};
}

Error Late(const Sequence& seq) {
  return {ErrorCode::kDeadlineExceeded,
          fmt::format("the request was not done by its deadline: {} of at most {} tokens had been "
                      "generated",
                      seq.num_generated(), seq.max_len - seq.num_prompt)};
}

NewSeqData NewDataOf(const Sequence& seq) {
  NewSeqData data{.tokens = seq.tokens,
                  .num_prompt = seq.num_prompt,
                  .num_computed = seq.num_computed,
                  .sample_index = seq.sample_index,
                  .sampling = seq.request->sampling,
                  .end_token_ids = {},
                  .mirostat_mu = seq.mirostat_mu};
  if (data.sampling.min_tokens > 0) data.end_token_ids = seq.request->stop_token_ids;
  return data;
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config, KvCacheConfig kv,
                     std::unique_ptr<AdmissionPolicy> policy)
    : config_(config),
      policy_(std::move(policy)),
      kv_(WithStepTokens(kv, config.max_num_batched_tokens)),
      groups_(std::move(kv.spec.groups)),
      shares_(config.fairness, config.first_turn_tokens),
      drafts_(config.max_draft_tokens, config.adaptive_drafts),
      running_(*policy_),
      waiting_(*policy_, shares_) {
  GALE_CHECK_GT(config_.max_num_seqs, 0);
  GALE_CHECK_GT(config_.max_num_batched_tokens, 0);
}

void Scheduler::Add(std::shared_ptr<const Request> request) {
  const auto num_prompt = static_cast<int32_t>(request->prompt.size());
  GALE_CHECK_GE(num_prompt, 1);
  GALE_CHECK_LE(num_prompt, config_.max_model_len);
  const SamplingParams& sampling = request->sampling;
  const int32_t max_len = static_cast<int32_t>(
      std::min<int64_t>(int64_t{num_prompt} + sampling.max_tokens, config_.max_model_len));
  // A prompt of one token leaves nothing to share.
  const bool fork = sampling.n > 1 && (num_prompt > 1 || max_len == num_prompt);
  for (int sample = 0; sample < sampling.n; ++sample) {
    auto owned = std::make_unique<Sequence>();
    Sequence& seq = *owned;
    seq.id = next_id_++;
    seq.request = request;
    seq.sample_index = sample;
    seq.tokens = request->prompt;
    seq.num_prompt = num_prompt;
    seq.max_len = max_len;
    seq.has_forks = fork && sample == 0;
    shares_.Arrive(seq);
    sequences_.emplace(seq.id, std::move(owned));
    if (fork && sample > 0) {
      seq.state = SequenceState::kForking;
    } else {
      waiting_.Push(seq);
    }
  }
}

Sequence* Scheduler::FindSequence(SeqId id) {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

SchedulerOutput Scheduler::Schedule(double now_s) {
  now_s_ = now_s;
  budget_ = config_.max_num_batched_tokens;
  out_of_room_ = false;
  has_preempted_ = false;
  EndCancelledAndLate();
  EndTurns();
  SchedulerOutput plan;
  if (drafts_.is_on() && (PlanDrafts() || is_speculating_) && step_ != collected_) return plan;
  plan.step = step_ + 1;
  plan.seqs.reserve(std::min<size_t>(config_.max_num_seqs, running_.size() + waiting_.size()));
  ScheduleRunning(plan);
  Admit(plan);
  // Those that are held may wait for those that lack the room which they hold.
  while (plan.seqs.empty() && (out_of_room_ || !waiting_.empty()) && PreemptHeld()) {
    out_of_room_ = false;
    has_preempted_ = false;
    ScheduleRunning(plan);
    Admit(plan);
  }
  if (plan.seqs.empty()) return plan;

  step_ = plan.step;
  is_speculating_ = std::ranges::any_of(
      plan.seqs, [](const ScheduledSeq& seq) { return seq.draft.num_tokens > 0; });
  ++stats_.steps;
  plan.finished = std::exchange(finished_, {});
  plan.preempted = std::exchange(preempted_, {});
  TakeMoves(plan);
  return plan;
}

/// Whether the next step speculates on anything.
bool Scheduler::PlanDrafts() {
  std::vector<Sequence*> decodes;
  for (Sequence* seq : running_) {
    seq->draft.num_tokens = 0;
    if (NextWork(*seq).is_decode) decodes.push_back(seq);
  }
  // The other half of what decodes leave is for prompts.
  const auto num_decodes = static_cast<int>(decodes.size());
  return drafts_.Plan(decodes, (config_.max_num_batched_tokens - num_decodes) / 2);
}

void Scheduler::TakeMoves(SchedulerOutput& plan) {
  BlockMoves moves = kv_.TakeMoves();
  stats_.swapped_out_blocks += moves.swap_out.size();
  stats_.swapped_in_blocks += moves.swap_in.size();
  plan.copies = std::move(moves.copies);
  plan.swap_out = std::move(moves.swap_out);
  plan.swap_in = std::move(moves.swap_in);
}

void Scheduler::EndCancelledAndLate() {
  std::vector<Sequence*> cancelled;
  std::vector<Sequence*> late;
  const auto look = [&](Sequence& seq) {
    const double deadline_s = seq.request->origin().deadline_s;
    if (seq.request->is_cancelled()) {
      cancelled.push_back(&seq);
    } else if (deadline_s > 0 && deadline_s < now_s_) {
      late.push_back(&seq);
    }
  };
  for (Sequence* seq : running_) look(*seq);
  waiting_.ForEach(look);
  for (Sequence* seq : cancelled) End(*seq, FinishReason::kCancelled);
  for (Sequence* seq : late) End(*seq, FinishReason::kError, Late(*seq));
}

/// Running sequences whose turn is over take their next one, and where places are lacking, let
/// those who wait and come before them then have theirs.
void Scheduler::EndTurns() {
  if (!lacks_place_ || waiting_.empty()) return;
  std::vector<Sequence*> over;
  for (Sequence* seq : running_) {
    if (shares_.IsOver(*seq) && !seq->is_held) over.push_back(seq);
  }
  for (Sequence* seq : over) {
    running_.Remove(*seq);
    shares_.NextTurn(*seq);
    running_.Push(*seq);
  }
  std::ranges::sort(
      over, [this](const Sequence* a, const Sequence* b) { return waiting_.Before(*b, *a); });
  int64_t room = RoomToKeep();
  for (Sequence* seq : over) {
    const Sequence& next = waiting_.front();
    room -= kv_.BlocksToHold(static_cast<int>(next.tokens.size()) + 1);
    if (room < 0 || !waiting_.Before(next, *seq)) break;
    Preempt(*seq);
  }
  has_preempted_ = false;  // these places are for those who wait
}

void Scheduler::ScheduleRunning(SchedulerOutput& plan) {
  decode_reserve_ = 0;
  StepLoad decodes;
  int chunk_begin = 0;
  int num_decodes = 0;
  size_t num_prompts = waiting_.size();
  for (const Sequence* seq : running_) {
    const SequenceWork work = NextWork(*seq);
    if (work.is_decode) {
      ++num_decodes;
      decode_reserve_ += work.num_tokens;
      decodes.AddDecode(work.num_tokens, seq->num_launched());
    } else if (work.num_tokens > 0) {
      if (++num_prompts; chunk_begin == 0) chunk_begin = seq->num_launched();
    }
  }
  if (num_decodes > 0) {
    LimitChunks(decodes, static_cast<double>(num_prompts) / num_decodes, chunk_begin);
  }
  // Serving may preempt from the end of running_; forks come in behind their sample 0.
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    Sequence& seq = running_[i];
    const SequenceWork work = NextWork(seq);
    if (work.is_decode) decode_reserve_ -= work.num_tokens;
    // The first in order always gets on, even if decodes would take the whole budget.
    const int chunk_budget = std::max(budget_ - decode_reserve_, i == 0 ? 1 : 0);
    Serve(plan, seq, work, chunk_budget);
  }
}

/// Blocks beside those of all sequences that have begun. Turns are for where what one has computed
/// is still there when it goes on: computing it again would cost all of them more than waiting.
int64_t Scheduler::RoomToKeep() const {
  int64_t room = int64_t{kv_.num_free()} + kv_.num_retiring() + kv_.num_host_total();
  waiting_.ForEach([&](const Sequence& seq) {
    if (seq.num_preemptions > 0) room -= 2 * kv_.BlocksToHold(static_cast<int>(seq.tokens.size()));
  });
  return room;
}

/// Leaves prompts as much of the budget as keeps the step from taking much longer than its decodes;
/// in proportion more where more sequences wait for their first token than for their next one.
void Scheduler::LimitChunks(const StepLoad& decodes, double prompts_per_decode, int chunk_begin) {
  constexpr int kLeastChunk = 16;  // smaller ones compute too little for what a step costs anyway
  if (config_.max_step_stretch == 0 || !step_times_.is_ready()) return;
  const double stretch = 1 + (config_.max_step_stretch - 1) * std::max(prompts_per_decode, 1.0);
  const double bound_s = stretch * step_times_.Predict(decodes);
  const int chunk = step_times_.ChunkTokens(decodes, chunk_begin, bound_s);
  budget_ = std::min(budget_, decode_reserve_ + std::max(chunk, kLeastChunk));
}

/// Schedules what budget and blocks allow; `seq` may be gone afterwards.
void Scheduler::Serve(SchedulerOutput& plan, Sequence& seq, SequenceWork work, int chunk_budget) {
  if (work.is_decode) {
    work.num_draft = std::min(work.num_draft, budget_ - 1);
    // Nobody gives up blocks for what is only guessed.
    if (kv_.BlocksNeeded(seq, {}, 1 + work.num_draft) > kv_.num_free()) work.num_draft = 0;
    work.num_tokens = 1 + work.num_draft;
  } else {
    const int begin = seq.num_launched();
    work.num_tokens =
        kv_.ChunkEnd(seq, begin, begin + std::min(work.num_tokens, chunk_budget)) - begin;
  }
  if (work.num_tokens == 0 || !MakeRoom(seq, work.num_tokens)) return;
  if (CanFork(seq)) ForkSamples(seq);
  Emit(plan, seq, work);
}

/// The copies are made in a step that also computes the parent, which therefore keeps its blocks.
void Scheduler::ForkSamples(Sequence& parent) {
  parent.has_forks = false;
  for (int i = 1; i < parent.request->sampling.n; ++i) {
    Sequence& child = *sequences_.at(parent.id + i);
    child.last_step = step_ + 1;
    if (running_.size() < static_cast<size_t>(config_.max_num_seqs) && kv_.Fork(parent, child)) {
      child.state = SequenceState::kRunning;
      running_.Push(child);
      ++decode_reserve_;
    } else {
      child.state = SequenceState::kWaiting;
      waiting_.Push(child);
    }
  }
}

/// Gives `seq` slots for `num_new` positions, if need be at the cost of those behind it. False: it
/// must wait, or, when it has the whole cache for itself and still lacks blocks, has ended.
bool Scheduler::MakeRoom(Sequence& seq, int num_new) {
  while (true) {
    const int needed = kv_.BlocksNeeded(seq, {}, num_new);
    if (needed > 0 && out_of_room_) return false;
    const int lacking = needed - kv_.num_free();
    if (lacking <= 0) break;
    const bool is_last = &running_.back() == &seq;
    if (!is_last && lacking > kv_.num_retiring()) {
      Preempt(running_.back());
      continue;
    }
    if (running_.size() == 1 && kv_.num_retiring() == 0 && seq.num_in_flight == 0) {
      End(seq, FinishReason::kError, DoesNotFit(kv_, seq.num_launched() + num_new));
      return false;
    }
    out_of_room_ = true;  // blocks come when a step in flight retires or somebody ends
    return false;
  }
  table_sizes_.clear();
  for (const BlockList& table : seq.blocks) table_sizes_.push_back(table.size());
  seq.last_step = step_ + 1;
  return kv_.AllocateSlots(seq, {}, num_new);
}

void Scheduler::Preempt(Sequence& seq) {
  const SequenceWork work = NextWork(seq);
  if (work.is_decode) decode_reserve_ -= work.num_tokens;
  running_.Remove(seq);
  if (seq.first_step != 0) preempted_.push_back(seq.id);
  kv_.Free(seq);
  seq.pooled.clear();
  seq.num_in_flight = 0;
  seq.first_step = 0;
  ++seq.num_preemptions;
  ++stats_.preemptions;
  has_preempted_ = true;
  if (seq.is_held) {
    seq.state = SequenceState::kHeld;
  } else {
    seq.state = SequenceState::kWaiting;
    waiting_.Push(seq);
  }
}

/// Takes the blocks of the last in order that is held; false when there is none, or when a step in
/// flight may change what is needed.
bool Scheduler::PreemptHeld() {
  if (step_ != collected_) return false;
  for (size_t i = running_.size(); i-- > 0;) {
    if (!running_[i].is_held) continue;
    Preempt(running_[i]);
    return true;
  }
  return false;
}

void Scheduler::Admit(SchedulerOutput& plan) {
  while (budget_ > 0 && !out_of_room_ && !has_preempted_ && !waiting_.empty() &&
         running_.size() < static_cast<size_t>(config_.max_num_seqs)) {
    if (!AdmitFirst(plan)) break;
  }
  lacks_place_ = !waiting_.empty() && budget_ > 0;
}

/// False: the first in the queue must wait, and so must all behind it.
bool Scheduler::AdmitFirst(SchedulerOutput& plan) {
  Sequence& seq = waiting_.front();
  if (seq.num_in_flight_samples > 0) return false;  // preempted; its last token is on the way
  // Room for all that is known and the next token: chunks of two prompts must not starve each
  // other.
  const int most_tokens = std::min(seq.num_planned() + 1, seq.max_len);
  if (kv_.BlocksToHold(most_tokens) > kv_.num_total()) {
    End(seq, FinishReason::kError, DoesNotFit(kv_, most_tokens));
    return true;
  }
  return Start(plan, seq, most_tokens);
}

/// From its first token, or from where its cached prefix ends.
bool Scheduler::Start(SchedulerOutput& plan, Sequence& seq, int most_tokens) {
  const int end = EndOfWork(seq);
  PrefixMatch match;
  if (MayReadPrefix(seq)) match = kv_.MatchPrefix(seq, end - 1);
  const int needed = std::min(kv_.BlocksNeeded(seq, match, most_tokens - match.num_tokens),
                              kv_.BlocksToHold(most_tokens));
  if (needed > kv_.num_free()) return false;

  SequenceWork work;
  const int begin = match.num_tokens;
  work.num_tokens = kv_.ChunkEnd(seq, begin, std::min(end, begin + budget_)) - begin;
  seq.last_step = step_ + 1;
  if (!kv_.AllocateSlots(seq, match, work.num_tokens)) return false;
  if (seq.num_preemptions == 0) {
    seq.num_cached = match.num_tokens;
    stats_.cached_tokens += match.num_tokens;
  }
  waiting_.Remove(seq);
  seq.state = SequenceState::kRunning;
  running_.Push(seq);
  Emit(plan, seq, work);
  return true;
}

void Scheduler::Emit(SchedulerOutput& plan, Sequence& seq, const SequenceWork& work) {
  const int begin = seq.num_launched();
  const int end = begin + work.num_tokens - work.num_draft;
  ScheduledSeq& scheduled = plan.seqs.emplace_back();
  scheduled.id = seq.id;
  scheduled.begin = begin;
  scheduled.num_tokens = work.num_tokens;
  scheduled.draft.num_tokens = work.num_draft;
  scheduled.sample = end == seq.num_planned() && seq.num_planned() < seq.max_len;
  if (work.num_draft > 0 || (WantsPromptLogprobs(seq) && begin < seq.num_prompt - 1)) {
    scheduled.logits = LogitsRows::kAll;
  } else if (scheduled.sample) {
    scheduled.logits = LogitsRows::kLast;
  }
  scheduled.num_pooled = NumPooled(seq, work.num_tokens, end);
  AddBlocks(scheduled, seq);
  if (seq.is_replaced && seq.first_step != 0) scheduled.last_token = seq.tokens.back();
  seq.is_replaced = false;
  if (seq.first_step == 0) {
    seq.first_step = plan.step;
    scheduled.first_time = std::make_shared<const NewSeqData>(NewDataOf(seq));
  }
  shares_.Charge(seq, begin, end);
  if (seq.first_scheduled_s == 0) seq.first_scheduled_s = now_s_;
  seq.num_in_flight += work.num_tokens;
  seq.num_in_flight_samples += scheduled.sample ? 1 : 0;
  budget_ -= work.num_tokens;
  stats_.prompt_tokens += std::clamp(seq.num_prompt - begin, 0, work.num_tokens);
}

void Scheduler::AddBlocks(ScheduledSeq& scheduled, const Sequence& seq) const {
  if (seq.first_step == 0) {
    scheduled.new_blocks = seq.blocks;
    return;
  }
  for (size_t g = 0; g < seq.blocks.size(); ++g) {
    if (seq.blocks[g].size() == table_sizes_[g]) continue;
    scheduled.new_blocks.resize(seq.blocks.size());
    scheduled.new_blocks[g].assign(seq.blocks[g].begin() + table_sizes_[g], seq.blocks[g].end());
  }
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.drafts = drafts_.stats();
  stats.running_seqs = static_cast<int>(running_.size());
  stats.waiting_seqs = static_cast<int>(sequences_.size() - running_.size());
  return stats;
}

}  // namespace gale
