#include "base/blocking_queue.h"

#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(BlockingQueueTest, KeepsOrderBetweenThreads) {
  BlockingQueue<std::unique_ptr<int>> queue;
  std::thread producer([&] {
    for (int i = 0; i < 1000; ++i) queue.Push(std::make_unique<int>(i));
    queue.Close();
  });
  std::vector<int> seen;
  while (auto item = queue.Pop()) seen.push_back(**item);
  producer.join();
  ASSERT_EQ(seen.size(), 1000);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(BlockingQueueTest, CloseHandsOutTheRestAndDropsWhatComesLater) {
  BlockingQueue<int> queue;
  EXPECT_TRUE(queue.Push(1));
  EXPECT_TRUE(queue.Push(2));
  queue.Close();
  EXPECT_FALSE(queue.Push(3));
  EXPECT_EQ(queue.PopAll(true), (std::deque<int>{1, 2}));
  EXPECT_TRUE(queue.PopAll(true).empty());
  EXPECT_EQ(queue.Pop(), std::nullopt);
}

TEST(BlockingQueueTest, PopAllWithoutWaitingTakesWhatThereIs) {
  BlockingQueue<int> queue;
  EXPECT_TRUE(queue.PopAll(false).empty());
  queue.Push(5);
  EXPECT_EQ(queue.PopAll(false).size(), 1);
}

}  // namespace
}  // namespace gale
