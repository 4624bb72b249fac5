#include "quantize/awq.h"

#include <numeric>

#include <gtest/gtest.h>

#include "quantize/quantize_test_support.h"
#include "quantize/smooth_quant.h"

namespace gale {
namespace {

constexpr int64_t kIn = 128;
constexpr IntegerFormat kFormat{.has_zeros = true, .group = 32};

class AwqTest : public testing::Test {
 protected:
  AwqTest() : producer_(kIn) {
    std::iota(producer_.begin(), producer_.end(), 0);
    inputs_.gram = CorrelatedGram(kIn, 300, 4);
    inputs_.mean_abs = inputs_.gram.diagonal().cwiseSqrt() * 0.8F;
    inputs_.max_abs = inputs_.mean_abs * 4;
  }

  /// Of the outputs, with inputs divided and columns multiplied by `scales`.
  double Loss(const Vector& scales, bool clip = false) {
    Matrix scaled = weight_ * scales.asDiagonal();
    const Matrix gram =
        scales.cwiseInverse().asDiagonal() * inputs_.gram * scales.cwiseInverse().asDiagonal();
    const Matrix target = scaled;
    if (clip) ClipGroups(scaled, gram, kFormat, threads_);
    return OutputError(target - Dequantize(RoundToNearest(scaled, kFormat, threads_)), gram,
                       threads_);
  }

  ThreadPool threads_{2};
  Matrix weight_ = RandomMatrix(48, kIn, 3);
  InputStatistics inputs_;
  ProducerMap producer_;
};

TEST_F(AwqTest, ScalesAndClippingEachLoseLess) {
  const Matrix* weights[] = {&weight_};
  const Vector scales = FindAwqScales(weights, inputs_, producer_, kFormat, threads_);
  const double plain = Loss(Vector::Ones(kIn));
  EXPECT_LT(Loss(scales), 0.8 * plain);
  EXPECT_LT(Loss(scales, /*clip=*/true), Loss(scales));
  // Channels that are ten times the others get the larger factors.
  EXPECT_GT(scales[17], scales[18]);
}

TEST_F(AwqTest, InputsOfOneProducerShareAScale) {
  for (size_t i = 0; i < producer_.size(); ++i) producer_[i] = static_cast<int64_t>(i % 64);
  const Matrix* weights[] = {&weight_};
  const Vector scales = FindAwqScales(weights, inputs_, producer_, kFormat, threads_);
  for (int64_t i = 0; i < 64; ++i) EXPECT_EQ(scales[i], scales[i + 64]);
  EXPECT_NE(scales[0], scales[1]);
}

TEST_F(AwqTest, SmoothingMovesOutliersByItsStrength) {
  const Matrix* weights[] = {&weight_};
  const Vector all = FindSmoothingScales(weights, inputs_, 1);
  for (int64_t i = 0; i < kIn; ++i) EXPECT_NEAR(all[i] / inputs_.max_abs[i], 1, 1e-5);
  const Vector half = FindSmoothingScales(weights, inputs_, 0.5);
  // Half way, inputs and weights are as large as one another.
  const Vector input = inputs_.max_abs.cwiseQuotient(half);
  const Vector column = (weight_ * half.asDiagonal()).cwiseAbs().colwise().maxCoeff();
  for (int64_t i = 0; i < kIn; ++i) EXPECT_NEAR(input[i] / column[i], 1, 1e-4);
}

}  // namespace
}  // namespace gale
