#include "support/chi_square.h"

#include <vector>

#include <gtest/gtest.h>

namespace gale::test {
namespace {

// Quantiles from the tables of Abramowitz & Stegun, 26.8.
TEST(ChiSquare, TailMatchesTheTables) {
  EXPECT_NEAR(ChiSquareTail(3.84146, 1), 0.05, 1e-6);
  EXPECT_NEAR(ChiSquareTail(18.3070, 10), 0.05, 1e-6);
  EXPECT_NEAR(ChiSquareTail(2.55821, 10), 0.99, 1e-6);
  EXPECT_NEAR(ChiSquareTail(149.449, 100), 0.001, 1e-6);
  EXPECT_EQ(ChiSquareTail(0, 5), 1.0);
}

TEST(ChiSquare, JudgesCounts) {
  const std::vector<double> fair(4, 0.25);
  EXPECT_EQ(ChiSquareP(std::vector<int64_t>{25, 25, 25, 25}, fair), 1.0);
  EXPECT_LT(ChiSquareP(std::vector<int64_t>{100, 20, 20, 20}, fair), 1e-10);
  EXPECT_EQ(ChiSquareP(std::vector<int64_t>{50, 50, 1, 0}, std::vector<double>{0.5, 0.5, 0, 0}),
            0.0);
}

}  // namespace
}  // namespace gale::test
