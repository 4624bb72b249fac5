#include "eval/row_comparison.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(RowComparisonTest, DivergenceOfDistributionsWrittenOut) {
  // p = 1/2, 1/4, 1/4 and q = 1/4, 1/2, 1/4; logits may be shifted.
  const std::vector<float> p = {std::log(0.5F) + 7, std::log(0.25F) + 7, std::log(0.25F) + 7};
  const std::vector<float> q = {std::log(0.25F), std::log(0.5F), std::log(0.25F)};
  const RowComparison row = CompareRows(p, q, 1);
  EXPECT_NEAR(row.kl, 0.5 * std::log(2.0) - 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(row.base_logprob, std::log(0.25), 1e-6);
  EXPECT_NEAR(row.other_logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(row.base_top, 0);
  EXPECT_EQ(row.other_top, 1);
}

TEST(RowComparisonTest, EqualRowsDoNotDiverge) {
  const std::vector<float> p = {1, -80, 3, 2};
  const RowComparison row = CompareRows(p, p, 2);
  EXPECT_EQ(row.kl, 0);
  EXPECT_EQ(row.base_logprob, row.other_logprob);
  EXPECT_EQ(row.base_top, 2);
}

TEST(RowComparisonTest, WhatOnlyTheBaseExpectsIsInfinitelyFar) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> both = {0, 0};
  const std::vector<float> one = {0, -kInf};
  EXPECT_EQ(CompareRows(both, one, 0).kl, kInf);
  EXPECT_NEAR(CompareRows(one, both, 0).kl, std::log(2.0), 1e-6);
  EXPECT_EQ(CompareRows(both, one, 1).other_logprob, -kInf);
}

}  // namespace
}  // namespace gale
