#include "base/thread_pool.h"

#include <algorithm>

#include "base/check.h"

namespace gale {
namespace {

// About 50 us: longer than the gap between two ops of a forward pass, shorter than anyone notices.
constexpr int kSpins = 1000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint32_t RegionOf(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }
uint32_t LeftOf(uint64_t ticket) { return static_cast<uint32_t>(ticket); }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  GALE_CHECK_GE(threads, 1);
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  ticket_.fetch_add(uint64_t{1} << 32);
  ticket_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t tasks, Invoke invoke, void* context) {
  GALE_CHECK_LE(tasks, int64_t{UINT32_MAX});  // the ticket counts in 32 bits
  std::lock_guard lock(mutex_);
  // No worker holds a task here, so none reads these two.
  invoke_ = invoke;
  context_ = context;
  unfinished_.store(static_cast<uint32_t>(tasks), std::memory_order_relaxed);
  const uint32_t region = RegionOf(ticket_.load(std::memory_order_relaxed)) + 1;
  ticket_.store(uint64_t{region} << 32 | static_cast<uint32_t>(tasks));
  if (sleepers_.load() > 0) ticket_.notify_all();

  while (RunOneTask(region, 0)) {
  }
  for (int spin = 0;; ++spin) {
    const uint32_t left = unfinished_.load(std::memory_order_acquire);
    if (left == 0) return;
    if (spin < kSpins) {
      Pause();
    } else {
      unfinished_.wait(left, std::memory_order_acquire);
    }
  }
}

bool ThreadPool::RunOneTask(uint32_t region, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  do {
    if (RegionOf(ticket) != region || LeftOf(ticket) == 0) return false;
  } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire));
  // The region cannot end before this task does, so invoke_ and context_ are this region's. Tasks
  // are counted down, hence handed out from the last to the first.
  invoke_(context_, LeftOf(ticket) - 1, thread);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  return true;
}

void ThreadPool::Work(int thread) {
  int spin = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint64_t ticket = ticket_.load(std::memory_order_acquire);
    if (LeftOf(ticket) > 0) {
      RunOneTask(RegionOf(ticket), thread);
      spin = 0;
    } else if (++spin < kSpins) {
      Pause();
    } else {
      sleepers_.fetch_add(1);
      ticket_.wait(ticket);  // returns at once if a region began meanwhile
      sleepers_.fetch_sub(1);
      spin = 0;
    }
  }
}

}  // namespace gale
