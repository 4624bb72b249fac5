#include "quantize/gptq.h"

#include <gtest/gtest.h>

#include "quantize/input_statistics.h"
#include "quantize/quantize_test_support.h"

namespace gale {
namespace {

class GptqTest : public testing::Test {
 protected:
  /// The error of the layer's outputs, codes against the weight.
  double Loss(const IntegerWeight& codes) {
    return OutputError(weight_ - Dequantize(codes), gram_, threads_);
  }

  ThreadPool threads_{2};
  Matrix weight_ = RandomMatrix(24, 192, 1);
  Matrix gram_ = CorrelatedGram(192, 400, 2);
};

TEST_F(GptqTest, LosesLessThanRoundToNearest) {
  for (const IntegerFormat& format :
       {IntegerFormat{.group = 32}, IntegerFormat{.group = 64, .scale = DType::kF32},
        IntegerFormat{.has_zeros = true, .group = 0}, IntegerFormat{.group = 96},
        IntegerFormat{.bits = 8, .group = 32}}) {
    const double nearest = Loss(RoundToNearest(weight_, format, threads_));
    for (const bool act_order : {false, true}) {
      const auto codes = Gptq(weight_, gram_, format, {.act_order = act_order}, threads_);
      ASSERT_TRUE(codes);
      EXPECT_LT(Loss(*codes), 0.8 * nearest) << format.group << ' ' << act_order;
    }
  }
}

TEST_F(GptqTest, WithIndependentInputsItIsRoundToNearest) {
  const Matrix identity = Matrix::Identity(192, 192);
  const IntegerFormat format{.group = 32};
  const auto codes = Gptq(weight_, identity, format, {}, threads_);
  ASSERT_TRUE(codes);
  EXPECT_EQ(codes->codes, RoundToNearest(weight_, format, threads_).codes);
}

TEST_F(GptqTest, ActOrderPutsLargeInputsIntoTheFirstGroups) {
  const auto codes = Gptq(weight_, gram_, {.group = 32}, {.act_order = true}, threads_);
  ASSERT_TRUE(codes);
  std::vector<int> sizes(6, 0);
  float least_of_first = 1e9F;
  float most_of_last = 0;
  for (int64_t i = 0; i < 192; ++i) {
    const int32_t group = codes->group_of[static_cast<size_t>(i)];
    ++sizes[static_cast<size_t>(group)];
    if (group == 0) least_of_first = std::min(least_of_first, gram_(i, i));
    if (group == 5) most_of_last = std::max(most_of_last, gram_(i, i));
  }
  EXPECT_EQ(sizes, std::vector<int>(6, 32));
  EXPECT_GT(least_of_first, most_of_last);
}

TEST_F(GptqTest, InputsThatAreAlwaysZeroDoNoHarm) {
  gram_.row(5).setZero();
  gram_.col(5).setZero();
  const IntegerFormat format{.group = 32};
  const auto codes = Gptq(weight_, gram_, format, {}, threads_);
  ASSERT_TRUE(codes) << codes.error().message;
  EXPECT_LT(Loss(*codes), 0.8 * Loss(RoundToNearest(weight_, format, threads_)));
}

TEST_F(GptqTest, TooLittleTextIsNamed) {
  gram_(3, 3) = -1;  // no Gram matrix has that
  gram_(4, 4) = 1e-9F;
  gram_(4, 7) = gram_(7, 4) = 100;
  const auto codes = Gptq(weight_, gram_, {.group = 32}, {}, threads_);
  ASSERT_FALSE(codes);
  EXPECT_NE(codes.error().message.find("more calibration text"), std::string::npos);
}

}  // namespace
}  // namespace gale
