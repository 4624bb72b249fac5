// The executors of one rank in this process: on a thread of its own, or on the caller's. Layer L4.
#pragma once

#include <memory>
#include <thread>
#include <variant>

#include "base/blocking_queue.h"
#include "runner/executor.h"
#include "runner/worker.h"

namespace gale {

/// For devices that work while ops are called, such as the CPU: a worker thread takes jobs in
/// order. The engine thread may plan step n + 1 while step n runs; whatever it does, the worker
/// does forward n, draws n, forward n + 1, ... in that order.
class LocalExecutor : public Executor {
 public:
  explicit LocalExecutor(std::unique_ptr<Worker> worker);
  /// Finishes the jobs it was given.
  ~LocalExecutor() override;

  StepHandle Launch(const SchedulerOutput& plan) override;
  void Sample(StepHandle handle, const SamplingInputs& inputs) override;
  Result<ModelRunnerOutput> Collect(StepHandle handle) override;

 private:
  using Job = std::variant<SchedulerOutput, SamplingInputs>;
  struct Done {
    uint64_t step = 0;
    Result<ModelRunnerOutput> output;
  };

  void Run();

  std::unique_ptr<Worker> worker_;
  BlockingQueue<Job> jobs_;
  BlockingQueue<Done> done_;
  std::thread thread_;
};

/// For devices on which the runner only enqueues: it is called directly, and no hand-over between
/// threads delays a step.
class DirectExecutor : public Executor {
 public:
  explicit DirectExecutor(std::unique_ptr<Worker> worker) : worker_(std::move(worker)) {}
  ~DirectExecutor() override;

  StepHandle Launch(const SchedulerOutput& plan) override;
  void Sample(StepHandle handle, const SamplingInputs& inputs) override;
  Result<ModelRunnerOutput> Collect(StepHandle handle) override;
  bool UseIdleTime() override { return worker_->runner().CaptureNextGraph(); }

 private:
  std::unique_ptr<Worker> worker_;
};

/// The one that suits the worker's device.
std::unique_ptr<Executor> MakeLocalExecutor(std::unique_ptr<Worker> worker);

}  // namespace gale
