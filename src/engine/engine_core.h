// The engine thread: Schedule, Execute, Update, step after step. Layer L5; owns the scheduler and
// the executor, which no other thread touches.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "base/blocking_queue.h"
#include "engine/beam_requests.h"
#include "gale/llm_engine.h"
#include "runner/executor.h"
#include "scheduler/scheduler.h"

namespace gale {

class EngineCore {
 public:
  /// `on_updates` is called on the engine thread with what each step brought.
  using UpdateCallback = std::function<void(std::vector<SequenceUpdate>)>;

  EngineCore(std::unique_ptr<Scheduler> scheduler, std::unique_ptr<Executor> executor, bool overlap,
             int max_model_len, UpdateCallback on_updates);
  ~EngineCore() { Stop(); }

  // From any thread:
  void Add(std::shared_ptr<const Request> request);  ///< tokenized and checked
  void FinishAtStopString(SeqId id);                 ///< unknown ids are ignored
  void Wake();                                       ///< a request's `cancelled` was set
  EngineStats stats() const;                         ///< without the bytes
  Histogram step_tokens() const;

  /// Ends the thread once every sequence has ended; the caller has cancelled those that should not
  /// run to their end.
  void Stop();

 private:
  struct StopFound {
    SeqId id = 0;
  };
  struct Woken {};
  struct Stopped {};
  using Message = std::variant<std::shared_ptr<const Request>, StopFound, Woken, Stopped>;
  /// A plan on its way through the executor.
  struct Step {
    SchedulerOutput plan;
    StepHandle handle;
  };

  void Start(std::shared_ptr<const Request> request);
  void SynchronousLoop();
  void OverlappedLoop();
  bool ReadInbox(bool in_flight);

  std::optional<Step> Schedule();
  void Launch(Step& step);
  bool Update(Step& step);
  void CountStep(const ModelRunnerOutput& output);
  void Publish(std::vector<SequenceUpdate> updates);

  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Executor> executor_;
  BeamRequests beams_;
  UpdateCallback on_updates_;
  BlockingQueue<Message> inbox_;
  bool stopping_ = false;
  mutable std::mutex stats_mutex_;
  EngineStats stats_;
  Histogram step_tokens_{{1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}};
  std::thread thread_;
};

}  // namespace gale
