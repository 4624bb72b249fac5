// The scheduler's other half: what collected steps, cancels and searches make of the sequences.
// Stop 9 of the request path.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/scheduler.h"

namespace gale {

std::vector<SequenceUpdate> Scheduler::Update(const SchedulerOutput& plan,
                                              ModelRunnerOutput output) {
  GALE_CHECK_EQ(output.step, plan.step);
  GALE_CHECK_EQ(output.seqs.size(), plan.seqs.size());
  kv_.Retire(plan.step);
  collected_ = plan.step;
  if (output.device_s > 0) LearnTimes(plan, output);
  for (size_t i = 0; i < plan.seqs.size(); ++i) {
    Absorb(plan.seqs[i], plan.step, std::move(output.seqs[i]));
  }
  return TakeUpdates();
}

void Scheduler::LearnTimes(const SchedulerOutput& plan, const ModelRunnerOutput& output) {
  if (drafts_.is_on()) drafts_.Observe(plan, output);
  // What was guessed, and how much of it, is not a matter of rows alone.
  if (!is_speculating_) step_times_.Observe(StepLoad::Of(plan), output.device_s);
  if (kv_.num_host_total() == 0 || config_.host_bytes_per_s == 0 || !step_times_.is_ready()) return;
  double swap_s = 0;  // of a token, out and back
  for (const KvGroup& group : groups_) {
    const double bytes = 2 * static_cast<double>(group.bytes_per_block) / group.block_tokens;
    swap_s += bytes / config_.host_bytes_per_s;
  }
  kv_.UseHost(swap_s < step_times_.SecondsPerToken());
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
  if (MaySpeculate(seq)) drafts_.Absorb(seq, output);
  if (output.mirostat_mu) seq.mirostat_mu = output.mirostat_mu;
  const auto accepted = static_cast<int32_t>(output.tokens.size());
  FinishReason reason = AppendTokens(seq, output.tokens, output.logprobs);
  stats_.generated_tokens += output.tokens.size();
  TakePromptLogprobs(seq, scheduled.begin, output.prompt_logprobs);
  // KV computed before a preemption is gone; tokens drawn and prompts scored then are not.
  const bool is_resident = seq.first_step != 0 && step >= seq.first_step;
  if (is_resident) {
    const int32_t advance = scheduled.draft.num_tokens > 0 ? accepted : scheduled.num_tokens;
    seq.num_in_flight -= scheduled.num_tokens;
    AddPooled(seq, output.pooled);
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
  if (reason != FinishReason::kNone) update.pooled = std::move(seq.pooled);
  update.finish_reason = reason;
  if (reason == FinishReason::kNone) {
    updates_.push_back(std::move(update));
  } else {
    End(seq, std::move(update));
  }
}

std::vector<SequenceUpdate> Scheduler::Fail(const SchedulerOutput& plan, const Error& error) {
  kv_.Retire(plan.step);
  collected_ = plan.step;
  std::vector<Sequence*> lost;
  for (const auto& [id, seq] : sequences_) {
    const bool has_blocks = seq->state == SequenceState::kRunning;
    if (has_blocks || seq->num_in_flight_samples > 0) lost.push_back(seq.get());
  }
  for (Sequence* seq : lost) End(*seq, FinishReason::kError, error);
  kv_.ForgetPrefixes();
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
  shares_.Leave(seq);
  kv_.Free(seq);
  sequences_.erase(seq.id);
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
  shares_.Join(child, parent);
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

}  // namespace gale
