// The executor of one rank in this process: a worker thread that takes jobs in order. Layer L4.
#pragma once

#include <memory>
#include <thread>
#include <variant>

#include "base/blocking_queue.h"
#include "runner/executor.h"
#include "runner/worker.h"

namespace gale {

/// Launch and Sample only enqueue, so the engine thread may plan step n + 1 while step n runs;
/// whatever it does, the worker sees forward n, draws n, forward n + 1, ... in that order.
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

}  // namespace gale
