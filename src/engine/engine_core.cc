#include "engine/engine_core.h"

#include <utility>

#include "engine/clock.h"

namespace gale {

EngineCore::EngineCore(std::unique_ptr<Scheduler> scheduler, std::unique_ptr<Executor> executor,
                       bool overlap, int max_model_len, UpdateCallback on_updates)
    : scheduler_(std::move(scheduler)),
      executor_(std::move(executor)),
      beams_(*scheduler_, max_model_len),
      on_updates_(std::move(on_updates)) {
  Publish({});
  thread_ = std::thread([this, overlap] { overlap ? OverlappedLoop() : SynchronousLoop(); });
}

void EngineCore::Add(std::shared_ptr<const Request> request) { inbox_.Push(std::move(request)); }

void EngineCore::FinishAtStopString(SeqId id) { inbox_.Push(StopFound{id}); }

void EngineCore::Wake() { inbox_.Push(Woken{}); }

void EngineCore::Stop() {
  inbox_.Push(Stopped{});
  if (thread_.joinable()) thread_.join();
}

void EngineCore::Start(std::shared_ptr<const Request> request) {
  if (request->sampling.num_beams > 1) {
    beams_.Add(request);
  } else {
    scheduler_->Add(std::move(request));
  }
}

/// Schedule, Execute, Update.
void EngineCore::SynchronousLoop() {
  while (ReadInbox(false)) {
    if (std::optional<Step> step = Schedule()) {
      Launch(*step);
      Update(*step);
    }
  }
}

/// Step n + 1 is planned and launched before step n is collected: the device goes from one to the
/// next without waiting for the host. The scheduler plans around tokens it has not seen yet.
void EngineCore::OverlappedLoop() {
  std::optional<Step> running;
  while (ReadInbox(running.has_value())) {
    std::optional<Step> next = Schedule();
    if (next) Launch(*next);
    const bool failed = running && !Update(*running);
    if (failed && next) {
      // It goes on from the failed one: let both be over before anything new is planned.
      Update(*next);
      next.reset();
    }
    running = std::move(next);
  }
}

/// Takes messages; sleeps when nothing can be done without one. False: stopped, and all work done.
bool EngineCore::ReadInbox(bool in_flight) {
  while (true) {
    const bool busy = in_flight || scheduler_->HasWork();
    if (stopping_ && !busy) return false;
    std::deque<Message> messages = inbox_.PopAll(/*wait=*/false);
    if (messages.empty() && !busy) {
      if (executor_->UseIdleTime()) continue;
      messages = inbox_.PopAll(/*wait=*/true);
    }
    for (Message& message : messages) {
      if (auto* request = std::get_if<std::shared_ptr<const Request>>(&message)) {
        Start(std::move(*request));
      } else if (const auto* stop = std::get_if<StopFound>(&message)) {
        scheduler_->Finish(stop->id, FinishReason::kStop);
      } else if (std::holds_alternative<Stopped>(message)) {
        stopping_ = true;
      }
    }
    if (in_flight || scheduler_->HasWork()) return true;
  }
}

/// Empty when nothing can run now; sequences may have ended all the same.
std::optional<EngineCore::Step> EngineCore::Schedule() {
  Step step{.plan = scheduler_->Schedule(NowSeconds()), .handle = {}};
  if (!step.plan.seqs.empty()) return step;
  Publish(scheduler_->TakeUpdates());
  return std::nullopt;
}

void EngineCore::Launch(Step& step) {
  {
    std::lock_guard lock(stats_mutex_);
    step_tokens_.Observe(step.plan.TotalTokens());
  }
  step.handle = executor_->Launch(step.plan);
  executor_->Sample(step.handle, {});
}

/// Collects the step. False: it failed, and with it every sequence that runs.
bool EngineCore::Update(Step& step) {
  Result<ModelRunnerOutput> output = executor_->Collect(step.handle);
  const bool ok = output.has_value();
  if (ok) {
    CountStep(*output);
  } else {
    std::lock_guard lock(stats_mutex_);
    stats_.failing = true;
  }
  Publish(ok ? scheduler_->Update(step.plan, *std::move(output))
             : scheduler_->Fail(step.plan, output.error()));
  return ok;
}

void EngineCore::CountStep(const ModelRunnerOutput& output) {
  std::lock_guard lock(stats_mutex_);
  stats_.failing = false;
  stats_.fused_steps += output.kind == StepKind::kFused ? 1 : 0;
  stats_.graph_steps += output.kind == StepKind::kGraph ? 1 : 0;
  stats_.overlapped_steps += output.idle_s ? 1 : 0;
  stats_.device_busy_s += output.device_s;
  stats_.device_idle_s += output.idle_s.value_or(0);
}

void EngineCore::Publish(std::vector<SequenceUpdate> updates) {
  updates = beams_.Absorb(std::move(updates));
  const SchedulerStats scheduled = scheduler_->stats();
  {
    std::lock_guard lock(stats_mutex_);
    stats_.running_seqs = scheduled.running_seqs;
    stats_.waiting_seqs = scheduled.waiting_seqs;
    stats_.total_blocks = scheduler_->kv_cache().num_total();
    stats_.free_blocks = scheduler_->kv_cache().num_free();
    stats_.steps = scheduled.steps;
    stats_.prompt_tokens = scheduled.prompt_tokens;
    stats_.cached_tokens = scheduled.cached_tokens;
    stats_.generated_tokens = scheduled.generated_tokens;
    stats_.preemptions = scheduled.preemptions;
    stats_.swapped_out_blocks = scheduled.swapped_out_blocks;
    stats_.swapped_in_blocks = scheduled.swapped_in_blocks;
    stats_.drafts = scheduled.drafts.drafts;
    stats_.draft_tokens = scheduled.drafts.draft_tokens;
    stats_.accepted_draft_tokens = scheduled.drafts.accepted_tokens;
    stats_.draft_saved_s = scheduled.drafts.saved_s;
  }
  if (!updates.empty()) on_updates_(std::move(updates));
}

Histogram EngineCore::step_tokens() const {
  std::lock_guard lock(stats_mutex_);
  return step_tokens_;
}

EngineStats EngineCore::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

}  // namespace gale
