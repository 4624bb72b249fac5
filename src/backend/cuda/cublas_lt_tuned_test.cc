#include "backend/cuda/cublas_lt_tuned.h"

#include <set>
#include <tuple>

#include <gtest/gtest.h>

namespace gale::cuda {
namespace {

TEST(TunedKernels, StandForRowsDownToThoseMeasuredBefore) {
  for (const int rows : {33, 40, 48}) {
    const TunedKernel* kernel = FindTuned(rows, 4096, 4096);
    ASSERT_NE(kernel, nullptr) << rows;
    EXPECT_EQ(kernel->rows, 48);
  }
  EXPECT_EQ(FindTuned(49, 4096, 4096), nullptr) << "of 64 rows the first choice is the best";
  EXPECT_EQ(FindTuned(65, 4096, 4096)->rows, 96);
}

TEST(TunedKernels, KnowNoOtherLayersAndNoMoreRows) {
  EXPECT_EQ(FindTuned(48, 4096, 4104), nullptr);
  EXPECT_EQ(FindTuned(48, 4104, 4096), nullptr);
  EXPECT_EQ(FindTuned(8193, 6144, 4096), nullptr);
}

TEST(TunedKernels, AreOneForEachShapeOfTheRowsMeasured) {
  std::set<std::tuple<int, int, int>> shapes;
  for (const TunedKernel& kernel : kTunedKernels) {
    EXPECT_TRUE(shapes.emplace(kernel.rows, kernel.outputs, kernel.k).second);
    EXPECT_EQ(FindTuned(kernel.rows, kernel.outputs, kernel.k), &kernel);
  }
}

}  // namespace
}  // namespace gale::cuda
