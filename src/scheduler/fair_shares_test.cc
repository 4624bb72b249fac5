#include "scheduler/fair_shares.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(FairShares, OneClientIsServedInOrder) {
  FairShares shares;
  double last = -1;
  for (int i = 0; i < 5; ++i) {
    const double tag = shares.Arrive("a", 10);
    EXPECT_GT(tag, last);
    last = tag;
  }
}

TEST(FairShares, ALightClientGoesBeforeAGreedyOnesQueue) {
  FairShares shares;
  std::vector<double> greedy;
  for (int i = 0; i < 100; ++i) greedy.push_back(shares.Arrive("greedy", 10));
  shares.Begin(greedy[3]);
  const double light = shares.Arrive("light", 10);
  EXPECT_GE(light, greedy[3]);
  EXPECT_LT(light, greedy[5]);
}

TEST(FairShares, WhoWasAwaySavesNothingUp) {
  FairShares shares;
  shares.Arrive("a", 10);
  for (int i = 0; i < 50; ++i) shares.Begin(shares.Arrive("b", 10));
  shares.End("a", 10, 10);
  // "a" does not get fifty turns in a row now.
  const double next_b = shares.Arrive("b", 10);
  double last_a = 0;
  for (int i = 0; i < 3; ++i) last_a = shares.Arrive("a", 10);
  EXPECT_GT(last_a, next_b);
}

TEST(FairShares, WhatWasTakenCountsNotWhatWasExpected) {
  FairShares shares;
  const double first = shares.Arrive("a", 1000);
  shares.Arrive("b", 1);
  shares.Begin(first);
  shares.End("a", 1000, 5);
  EXPECT_EQ(shares.Arrive("a", 1), first + 5);
}

TEST(FairShares, AnIdleEngineForgets) {
  FairShares shares;
  shares.Begin(shares.Arrive("a", 1000));
  shares.End("a", 1000, 1000);
  EXPECT_EQ(shares.Arrive("a", 1), 0);
}

TEST(FairShares, SharesAreEqualWhateverTheRequestsSizes) {
  FairShares shares;
  struct Waiting {
    double tag;
    bool big;
  };
  std::vector<Waiting> queue;
  for (int i = 0; i < 40; ++i) queue.push_back({shares.Arrive("big", 100), true});
  for (int i = 0; i < 400; ++i) queue.push_back({shares.Arrive("small", 10), false});
  std::ranges::stable_sort(queue, {}, &Waiting::tag);
  int served[2] = {0, 0};
  for (int i = 0; i < 220; ++i)
    served[queue[static_cast<size_t>(i)].big] += queue[static_cast<size_t>(i)].big ? 100 : 10;
  EXPECT_NEAR(served[0], served[1], 100);
}

}  // namespace
}  // namespace gale
