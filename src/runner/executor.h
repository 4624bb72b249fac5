// The seam: takes a step's plan to the device(s) and brings the tokens back. Layer L4.
#pragma once

#include <cstdint>
#include <vector>

#include "gale/status.h"
#include "scheduler/scheduler_output.h"

namespace gale {

struct StepHandle {
  uint64_t step = 0;
};

/// What sampling needs beyond the forward pass; it may arrive while that pass runs.
struct SamplingInputs {
  struct Bitmask {
    SeqId id = 0;
    std::vector<int32_t> words;  ///< ceil(vocab / 32) words; a set bit allows the token
  };
  std::vector<Bitmask> bitmasks;  ///< of sequences with a grammar; the others never wait
};

/// Launch, Sample, Collect once per step, each in step order. The synchronous loop calls them in a
/// row; the overlapped loop collects step n after launching step n + 1.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Enqueues the forward pass; returns at once.
  virtual StepHandle Launch(const SchedulerOutput& plan) = 0;
  /// Enqueues the draws; returns at once.
  virtual void Sample(StepHandle handle, const SamplingInputs& inputs) = 0;
  /// Waits for the step.
  virtual Result<ModelRunnerOutput> Collect(StepHandle handle) = 0;
  /// Called between requests: does a few milliseconds of what makes later steps faster. False:
  /// there is nothing left to do.
  virtual bool UseIdleTime() { return false; }
};

}  // namespace gale
