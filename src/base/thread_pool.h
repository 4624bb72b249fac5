// Threads for compute: splits one op over the cores and returns when it is done. Layer L0; a back
// end owns one. Entering a region costs a microsecond or two while the workers still spin.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace gale {

/// The caller is one of the threads: a pool of 1 starts none. Tasks are handed out one by one, so a
/// task must compute the same result whichever thread runs it and however many there are.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  ///< at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs task(i, thread) for i in [0, tasks) and waits for all of them; `thread`, in
  /// [0, threads()), picks scratch memory. Regions of several callers take turns, but a single task
  /// runs at once as thread 0. A task must not call ParallelFor.
  template <class Task>
  void ParallelFor(int64_t tasks, Task&& task) {
    using Function = std::remove_reference_t<Task>;
    if (tasks <= 1 || workers_.empty()) {
      for (int64_t i = 0; i < tasks; ++i) task(i, 0);
      return;
    }
    Run(
        tasks,
        [](void* context, int64_t i, int thread) { (*static_cast<Function*>(context))(i, thread); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  using Invoke = void (*)(void* context, int64_t task, int thread);

  void Run(int64_t tasks, Invoke invoke, void* context);
  bool RunOneTask(uint32_t region, int thread);
  void Work(int thread);

  std::mutex mutex_;  ///< held by the caller whose region runs
  Invoke invoke_ = nullptr;
  void* context_ = nullptr;
  /// region << 32 | tasks not yet handed out. One word, so that a worker which slept through a
  /// region cannot take a task of the next one by mistake.
  std::atomic<uint64_t> ticket_ = 0;
  std::atomic<uint32_t> unfinished_ = 0;  ///< tasks of the region not yet done
  std::atomic<uint32_t> sleepers_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace gale
