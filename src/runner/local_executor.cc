#include "runner/local_executor.h"

#include <chrono>
#include <utility>
#include <vector>

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
  ModelRunner& runner = worker_->runner();
  using Clock = std::chrono::steady_clock;
  uint64_t step = 0;
  Clock::time_point begin;
  while (std::optional<Job> job = jobs_.Pop()) {
    if (const auto* plan = std::get_if<SchedulerOutput>(&*job)) {
      begin = Clock::now();
      step = plan->step;
      runner.Forward(*plan);
    } else {
      runner.Sample(std::get<SamplingInputs>(*job));
      Result<ModelRunnerOutput> output = runner.Collect(step);
      if (output) output->device_s = std::chrono::duration<double>(Clock::now() - begin).count();
      done_.Push({step, std::move(output)});
    }
  }
}

DirectExecutor::~DirectExecutor() {
  // Freeing what a hung device holds would hang as well: it is kept until the process ends.
  static auto& kept = *new std::vector<std::unique_ptr<Worker>>;
  if (worker_->runner().is_device_lost()) kept.push_back(std::move(worker_));
}

StepHandle DirectExecutor::Launch(const SchedulerOutput& plan) {
  worker_->runner().Forward(plan);
  return {plan.step};
}

void DirectExecutor::Sample(StepHandle /*handle*/, const SamplingInputs& inputs) {
  worker_->runner().Sample(inputs);
}

Result<ModelRunnerOutput> DirectExecutor::Collect(StepHandle handle) {
  return worker_->runner().Collect(handle.step);
}

std::unique_ptr<Executor> MakeLocalExecutor(std::unique_ptr<Worker> worker) {
  if (worker->backend().info().is_asynchronous) {
    return std::make_unique<DirectExecutor>(std::move(worker));
  }
  return std::make_unique<LocalExecutor>(std::move(worker));
}

}  // namespace gale
