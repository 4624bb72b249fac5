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

/// Prompt logprobs are handed out by sample 0 while it computes the whole prompt.
bool WantsPromptLogprobs(const Sequence& seq) {
  return seq.request->sampling.prompt_logprobs.has_value() && seq.sample_index == 0 &&
         seq.num_prompt_logprobs < seq.num_prompt - 1;
}

/// Sample 0 stops one token short of its prompt's end, and when that is confirmed the other samples
/// fork off. When there is nothing to draw they do not fork: they end with it.
bool WillFork(const Sequence& seq) { return seq.has_forks && seq.max_len > seq.num_prompt; }
bool CanFork(const Sequence& seq) {
  return WillFork(seq) && seq.num_computed == seq.num_prompt - 1;
}

int32_t EndOfWork(const Sequence& seq) {
  return WillFork(seq) && !CanFork(seq) ? seq.num_prompt - 1 : seq.num_planned();
}

SequenceUpdate UpdateOf(const Sequence& seq) {
  SequenceUpdate update;
  update.request = seq.request;
  update.id = seq.id;
  update.sample_index = seq.sample_index;
  update.num_cached = seq.num_cached;
  update.first_scheduled_s = seq.first_scheduled_s;
  return update;
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config, KvCacheConfig kv,
                     std::unique_ptr<AdmissionPolicy> policy)
    : config_(config),
      policy_(std::move(policy)),
      kv_(WithStepTokens(std::move(kv), config.max_num_batched_tokens)),
      running_(*policy_),
      waiting_(*policy_) {
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
  FinishCancelled();
  SchedulerOutput plan;
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
  ++stats_.steps;
  plan.finished = std::exchange(finished_, {});
  plan.preempted = std::exchange(preempted_, {});
  BlockMoves moves = kv_.TakeMoves();
  plan.copies = std::move(moves.copies);
  plan.swap_out = std::move(moves.swap_out);
  plan.swap_in = std::move(moves.swap_in);
  return plan;
}

void Scheduler::FinishCancelled() {
  std::vector<Sequence*> cancelled;
  for (const RequestQueue* queue : {&running_, &waiting_}) {
    for (Sequence* seq : *queue) {
      if (seq->request->is_cancelled()) cancelled.push_back(seq);
    }
  }
  for (Sequence* seq : cancelled) End(*seq, FinishReason::kCancelled);
}

Scheduler::Work Scheduler::WorkOf(const Sequence& seq) const {
  Work work;
  const int32_t launched = seq.num_launched();
  if (seq.is_held || (seq.request->is_stepwise && seq.num_in_flight_samples > 0)) return work;
  // Every token that may exist is there or being drawn; only a prompt by itself is still computed.
  if (seq.num_planned() >= seq.max_len && seq.num_planned() > seq.num_prompt) return work;
  // How many tokens a step with drafts yields is known only when it has been collected.
  if (config_.num_draft_tokens > 0 && seq.num_in_flight_samples > 0) return work;
  if (launched >= EndOfWork(seq)) return work;
  work.num_tokens = EndOfWork(seq) - launched;
  work.is_decode = work.num_tokens == 1 && launched >= seq.num_prompt - 1;
  if (work.is_decode && launched >= seq.num_prompt) {
    // A step whose drafts are all right yields one token more than it has drafts.
    work.num_draft = std::clamp(seq.max_len - seq.num_planned() - 1, 0, config_.num_draft_tokens);
    work.num_tokens += work.num_draft;
  }
  return work;
}

void Scheduler::ScheduleRunning(SchedulerOutput& plan) {
  decode_reserve_ = 0;
  for (const Sequence* seq : running_) {
    const Work work = WorkOf(*seq);
    if (work.is_decode) decode_reserve_ += work.num_tokens;
  }
  // Serving may preempt from the end of running_; forks come in behind their sample 0.
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    Sequence& seq = running_[i];
    const Work work = WorkOf(seq);
    if (work.is_decode) decode_reserve_ -= work.num_tokens;
    // The first in order always gets on, even if decodes would take the whole budget.
    const int chunk_budget = std::max(budget_ - decode_reserve_, i == 0 ? 1 : 0);
    Serve(plan, seq, work, chunk_budget);
  }
}

/// Schedules what budget and blocks allow; `seq` may be gone afterwards.
void Scheduler::Serve(SchedulerOutput& plan, Sequence& seq, Work work, int chunk_budget) {
  if (work.is_decode) {
    work.num_draft = std::min(work.num_draft, budget_ - 1);
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
  const int lookahead = config_.num_draft_tokens;
  while (true) {
    const int needed = kv_.BlocksNeeded(seq, {}, num_new + lookahead);
    if (needed > 0 && out_of_room_) return false;
    const int lacking = needed - kv_.num_free();
    if (lacking <= 0) break;
    const bool is_last = &running_.back() == &seq;
    if (!is_last && lacking > kv_.num_retiring()) {
      Preempt(running_.back());
      continue;
    }
    if (running_.size() == 1 && kv_.num_retiring() == 0 && seq.num_in_flight == 0) {
      End(seq, FinishReason::kError, DoesNotFit(kv_, seq.num_launched() + num_new + lookahead));
      return false;
    }
    out_of_room_ = true;  // blocks come when a step in flight retires or somebody ends
    return false;
  }
  table_sizes_.clear();
  for (const BlockList& table : seq.blocks) table_sizes_.push_back(table.size());
  seq.last_step = step_ + 1;
  return kv_.AllocateSlots(seq, {}, num_new, lookahead);
}

void Scheduler::Preempt(Sequence& seq) {
  const Work work = WorkOf(seq);
  if (work.is_decode) decode_reserve_ -= work.num_tokens;
  running_.Remove(seq);
  const bool is_known = seq.first_step != 0;
  if (is_known) preempted_.push_back(seq.id);
  const bool is_swapped = is_known && seq.num_in_flight == 0 && kv_.SwapOut(seq);
  if (!is_swapped) kv_.Free(seq);
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

void Scheduler::Continue(SeqId id, TokenId token) {
  Sequence& seq = *sequences_.at(id);
  GALE_CHECK(seq.is_held);
  seq.is_held = false;
  seq.is_replaced = seq.tokens.back() != token;
  seq.tokens.back() = token;
  if (seq.state == SequenceState::kHeld) {
    seq.state = SequenceState::kWaiting;
    waiting_.Push(seq);
  }
}

SeqId Scheduler::Branch(SeqId parent_id, TokenId token) {
  Sequence& parent = *sequences_.at(parent_id);
  GALE_CHECK(parent.is_held);
  auto owned = std::make_unique<Sequence>();
  Sequence& child = *owned;
  child.id = next_id_++;
  child.request = parent.request;
  child.sample_index = parent.sample_index;
  child.tokens = parent.tokens;
  child.tokens.back() = token;
  child.num_prompt = parent.num_prompt;
  child.max_len = parent.max_len;
  child.first_scheduled_s = parent.first_scheduled_s;
  sequences_.emplace(child.id, std::move(owned));
  child.last_step = step_ + 1;
  if (parent.state == SequenceState::kRunning &&
      running_.size() < static_cast<size_t>(config_.max_num_seqs) && kv_.Fork(parent, child)) {
    parent.last_step = step_ + 1;  // its blocks are there until the copy has been made
    child.state = SequenceState::kRunning;
    running_.Push(child);
  } else {
    child.state = SequenceState::kWaiting;
    waiting_.Push(child);
  }
  return child.id;
}

void Scheduler::Admit(SchedulerOutput& plan) {
  while (budget_ > 0 && !out_of_room_ && !has_preempted_ && !waiting_.empty() &&
         running_.size() < static_cast<size_t>(config_.max_num_seqs)) {
    if (!AdmitFirst(plan)) break;
  }
}

/// False: the first in the queue must wait, and so must all behind it.
bool Scheduler::AdmitFirst(SchedulerOutput& plan) {
  Sequence& seq = waiting_.front();
  if (seq.num_in_flight_samples > 0) return false;  // preempted; its last token is on the way
  // Room for all that is known and the next token: chunks of two prompts must not starve each
  // other.
  const int most_tokens = std::min(seq.num_planned() + 1, seq.max_len) + config_.num_draft_tokens;
  if (kv_.BlocksToHold(most_tokens) > kv_.num_total()) {
    End(seq, FinishReason::kError, DoesNotFit(kv_, most_tokens));
    return true;
  }
  return seq.is_swapped_out() ? Resume(plan, seq, most_tokens) : Start(plan, seq, most_tokens);
}

/// From the prompt's start, or from where its cached prefix ends.
bool Scheduler::Start(SchedulerOutput& plan, Sequence& seq, int most_tokens) {
  const int end = EndOfWork(seq);
  PrefixMatch match;
  if (!WantsPromptLogprobs(seq)) match = kv_.MatchPrefix(seq, end - 1);
  const int needed = std::min(kv_.BlocksNeeded(seq, match, most_tokens - match.num_tokens),
                              kv_.BlocksToHold(most_tokens));
  if (needed > kv_.num_free()) return false;

  Work work;
  const int begin = match.num_tokens;
  work.num_tokens = kv_.ChunkEnd(seq, begin, std::min(end, begin + budget_)) - begin;
  seq.last_step = step_ + 1;
  if (!kv_.AllocateSlots(seq, match, work.num_tokens, config_.num_draft_tokens)) return false;
  if (seq.num_preemptions == 0) {
    seq.num_cached = match.num_tokens;
    stats_.cached_tokens += match.num_tokens;
  }
  waiting_.PopFront();
  seq.state = SequenceState::kRunning;
  running_.Push(seq);
  Emit(plan, seq, work);
  return true;
}

/// From where it was swapped out.
bool Scheduler::Resume(SchedulerOutput& plan, Sequence& seq, int most_tokens) {
  if (kv_.BlocksToHold(most_tokens) > kv_.num_free()) return false;
  seq.last_step = step_ + 1;
  if (!kv_.SwapIn(seq)) return false;
  waiting_.PopFront();
  seq.state = SequenceState::kRunning;
  running_.Push(seq);
  Serve(plan, seq, WorkOf(seq), budget_);
  return true;
}

void Scheduler::Emit(SchedulerOutput& plan, Sequence& seq, const Work& work) {
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
  AddBlocks(scheduled, seq);
  if (seq.is_replaced && seq.first_step != 0) scheduled.last_token = seq.tokens.back();
  seq.is_replaced = false;
  if (seq.first_step == 0) {
    seq.first_step = plan.step;
    scheduled.first_time = NewSeqData{.tokens = seq.tokens,
                                      .num_prompt = seq.num_prompt,
                                      .num_computed = seq.num_computed,
                                      .sample_index = seq.sample_index,
                                      .sampling = seq.request->sampling,
                                      .end_token_ids = {},
                                      .mirostat_mu = seq.mirostat_mu};
    if (seq.request->sampling.min_tokens > 0) {
      scheduled.first_time->end_token_ids = seq.request->stop_token_ids;
    }
  }
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

std::vector<SequenceUpdate> Scheduler::Update(const SchedulerOutput& plan,
                                              ModelRunnerOutput output) {
  GALE_CHECK_EQ(output.step, plan.step);
  GALE_CHECK_EQ(output.seqs.size(), plan.seqs.size());
  kv_.Retire(plan.step);
  collected_ = plan.step;
  for (size_t i = 0; i < plan.seqs.size(); ++i) {
    Absorb(plan.seqs[i], plan.step, std::move(output.seqs[i]));
  }
  return TakeUpdates();
}

/// Takes in what the step brought one sequence, which may have ended or been preempted since.
void Scheduler::Absorb(const ScheduledSeq& scheduled, uint64_t step, SeqOutput output) {
  GALE_CHECK_EQ(scheduled.id, output.id);
  GALE_CHECK_EQ(output.tokens.empty(), !scheduled.sample);
  GALE_CHECK_LE(static_cast<int>(output.tokens.size()), 1 + scheduled.draft.num_tokens);
  Sequence* found = FindSequence(scheduled.id);
  if (found == nullptr) return;
  Sequence& seq = *found;
  if (scheduled.sample) --seq.num_in_flight_samples;
  if (output.mirostat_mu) seq.mirostat_mu = output.mirostat_mu;
  const auto accepted = static_cast<int32_t>(output.tokens.size());
  FinishReason reason = AppendTokens(seq, output);
  TakePromptLogprobs(seq, scheduled.begin, output.prompt_logprobs);
  // KV computed before a preemption is gone; tokens drawn and prompts scored then are not.
  const bool is_resident = seq.first_step != 0 && step >= seq.first_step;
  if (is_resident) {
    const int32_t advance = scheduled.draft.num_tokens > 0 ? accepted : scheduled.num_tokens;
    seq.num_in_flight -= scheduled.num_tokens;
    kv_.Commit(seq, std::min<int32_t>(seq.num_computed + advance, seq.tokens.size()));
    if (seq.max_len == seq.num_prompt && seq.num_computed == seq.num_prompt) {
      reason = FinishReason::kLength;
    }
  }
  if (output.tokens.empty() && output.prompt_logprobs.empty() && reason == FinishReason::kNone) {
    return;
  }
  if (seq.request->is_stepwise && !output.tokens.empty()) {
    seq.is_held = true;
    if (seq.state == SequenceState::kWaiting) {
      waiting_.Remove(seq);
      seq.state = SequenceState::kHeld;
    }
  }
  SequenceUpdate update = UpdateOf(seq);
  update.tokens = std::move(output.tokens);
  update.logprobs = std::move(output.logprobs);
  update.prompt_logprobs = std::move(output.prompt_logprobs);
  update.finish_reason = reason;
  if (reason == FinishReason::kNone) {
    updates_.push_back(std::move(update));
  } else {
    End(seq, std::move(update));
  }
}

/// Drops from `output` what comes after the sequence's end.
FinishReason Scheduler::AppendTokens(Sequence& seq, SeqOutput& output) {
  const std::vector<TokenId>& stops = seq.request->stop_token_ids;
  FinishReason reason = FinishReason::kNone;
  size_t num_taken = 0;
  while (num_taken < output.tokens.size() && reason == FinishReason::kNone) {
    const TokenId token = output.tokens[num_taken++];
    seq.tokens.push_back(token);
    if (std::ranges::find(stops, token) != stops.end()) {
      reason = FinishReason::kStop;
    } else if (static_cast<int32_t>(seq.tokens.size()) >= seq.max_len) {
      reason = FinishReason::kLength;
    }
  }
  output.tokens.resize(num_taken);
  if (output.logprobs.size() > num_taken) output.logprobs.resize(num_taken);
  stats_.generated_tokens += num_taken;
  return reason;
}

/// `news` are of the positions from `begin` on; those handed out before a preemption are dropped.
void Scheduler::TakePromptLogprobs(Sequence& seq, int32_t begin,
                                   std::vector<PositionLogprobs>& news) {
  if (news.empty()) return;
  GALE_CHECK_LE(begin, seq.num_prompt_logprobs);
  const auto end = begin + static_cast<int32_t>(news.size());
  news.erase(news.begin(), news.begin() + (std::min(seq.num_prompt_logprobs, end) - begin));
  seq.num_prompt_logprobs = std::max(seq.num_prompt_logprobs, end);
}

std::vector<SequenceUpdate> Scheduler::Fail(const SchedulerOutput& plan, const Error& error) {
  kv_.Retire(plan.step);
  collected_ = plan.step;
  std::vector<Sequence*> lost;
  for (const auto& [id, seq] : sequences_) {
    const bool has_blocks = seq->state == SequenceState::kRunning || seq->is_swapped_out();
    if (has_blocks || seq->num_in_flight_samples > 0) lost.push_back(seq.get());
  }
  for (Sequence* seq : lost) End(*seq, FinishReason::kError, error);
  return TakeUpdates();
}

void Scheduler::Finish(SeqId id, FinishReason reason) {
  if (Sequence* seq = FindSequence(id)) End(*seq, reason);
}

std::vector<SequenceUpdate> Scheduler::TakeUpdates() { return std::exchange(updates_, {}); }

void Scheduler::End(Sequence& seq, FinishReason reason, std::optional<Error> error) {
  SequenceUpdate last = UpdateOf(seq);
  last.finish_reason = reason;
  last.error = std::move(error);
  End(seq, std::move(last));
}

/// The only place where a sequence ends; samples that still wait for its prompt end with it.
void Scheduler::End(Sequence& seq, SequenceUpdate last) {
  const int num_forks = seq.has_forks ? seq.request->sampling.n - 1 : 0;
  for (int i = 1; i <= num_forks; ++i) {
    End(*sequences_.at(seq.id + i), last.finish_reason, last.error);
  }
  updates_.push_back(std::move(last));
  if (seq.state == SequenceState::kRunning) running_.Remove(seq);
  if (seq.state == SequenceState::kWaiting) waiting_.Remove(seq);
  if (seq.first_step != 0) finished_.push_back(seq.id);
  kv_.Free(seq);
  sequences_.erase(seq.id);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running_seqs = static_cast<int>(running_.size());
  stats.waiting_seqs = static_cast<int>(sequences_.size() - running_.size());
  return stats;
}

}  // namespace gale
