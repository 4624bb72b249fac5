#include "base/thread_pool.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int tasks : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.ParallelFor(tasks, [&](int64_t i, int thread) {
        EXPECT_LT(thread, threads);
        ++runs[static_cast<size_t>(i)];
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, WritesAreVisibleAfterEveryRegion) {
  ThreadPool pool(4);
  std::vector<int> values(64);
  for (int round = 1; round <= 2000; ++round) {
    pool.ParallelFor(
        64, [&](int64_t i, int) { values[static_cast<size_t>(i)] += static_cast<int>(i); });
  }
  for (int i = 0; i < 64; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], 2000 * i);
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the workers stop spinning
    std::atomic<int64_t> sum = 0;
    pool.ParallelFor(100, [&](int64_t i, int) { sum += i; });
    EXPECT_EQ(sum.load(), 4950);
  }
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(2);
  std::vector<std::thread> callers;
  std::vector<int64_t> sums(4);
  for (size_t c = 0; c < sums.size(); ++c) {
    callers.emplace_back([&, c] {
      for (int round = 0; round < 200; ++round) {
        std::atomic<int64_t> sum = 0;
        pool.ParallelFor(10, [&](int64_t i, int) { sum += i; });
        sums[c] += sum.load();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const int64_t sum : sums) EXPECT_EQ(sum, 200 * 45);
}

}  // namespace
}  // namespace gale
