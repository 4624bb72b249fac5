#include "runner/local_executor.h"

#include "base/check.h"

namespace gale {

LocalExecutor::LocalExecutor(std::unique_ptr<Worker> worker)
    : worker_(std::move(worker)), thread_([this] { Run(); }) {}

LocalExecutor::~LocalExecutor() {
  jobs_.Close();
  thread_.join();
}

StepHandle LocalExecutor::Launch(const SchedulerOutput& plan) {
  jobs_.Push(plan);
  return {plan.step};
}

void LocalExecutor::Sample(StepHandle /*handle*/, const SamplingInputs& inputs) {
  jobs_.Push(inputs);
}

Result<ModelRunnerOutput> LocalExecutor::Collect(StepHandle handle) {
  std::optional<Done> done = done_.Pop();
  GALE_CHECK(done.has_value());
  GALE_CHECK_EQ(done->step, handle.step);
  return std::move(done->output);
}

void LocalExecutor::Run() {
  uint64_t step = 0;
  Status forward;
  while (std::optional<Job> job = jobs_.Pop()) {
    if (const auto* plan = std::get_if<SchedulerOutput>(&*job)) {
      step = plan->step;
      forward = worker_->runner().Forward(*plan);
    } else if (!forward) {
      done_.Push({step, tl::unexpected(forward.error())});
    } else {
      done_.Push({step, worker_->runner().Sample(std::get<SamplingInputs>(*job))});
    }
  }
}

}  // namespace gale
