#include "quant/canonical_weight.h"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

QuantFormat Scaled(CodeType codes, const ScaleBlock& block, bool has_zeros = false) {
  return {.code = BlockCode::kScaled, .codes = codes, .block = block, .has_zeros = has_zeros};
}

struct Case {
  const char* name;
  QuantFormat format;
  float error;  ///< at most, of the largest magnitude of a block
};

class RoundToNearestTest : public testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kIn = 96;
  static constexpr int64_t kOut = 20;

  RoundToNearestTest() {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (float& x : plain_) x = normal(random);
    // A whole block of zeros, and one that has none but a lone number.
    for (size_t row = 0; row < 16; ++row) {
      for (size_t i = 0; i < 32; ++i) plain_[row * kIn + i] = 0;
    }
    plain_[kIn + 40] = 0;
  }

  CanonicalWeight Round() {
    auto made = RoundToNearest(context_, TensorView(plain_.data(), DType::kF32, {kOut, kIn}),
                               GetParam().format);
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  static std::vector<float> Values(const LinearWeight& weight) {
    std::vector<float> values(static_cast<size_t>(weight.out * weight.in));
    ThreadPool threads(2);
    Dequantize(weight, TensorView(values.data(), DType::kF32, {weight.out, weight.in}), threads);
    return values;
  }

  std::unique_ptr<Backend> backend_ = std::move(*CreateBackend("cpu", {.threads = 1}));
  std::unique_ptr<Stream> stream_ = backend_->CreateStream();
  WeightStore store_;
  BindContext context_{*backend_, *stream_, store_};
  std::vector<float> plain_ = std::vector<float>(kOut * kIn);
};

TEST_P(RoundToNearestTest, IsNearAndKeepsZeros) {
  const CanonicalWeight made = Round();
  EXPECT_EQ(made.weight.format, GetParam().format);
  EXPECT_GE(made.memory.view.Bytes(), WeightBytesOf(GetParam().format, kIn, kOut));
  const std::vector<float> got = Values(made.weight);
  float largest = 0;
  float error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::isfinite(got[i]));
    if (plain_[i] == 0) {
      EXPECT_EQ(got[i], 0) << i;
    }
    largest = std::max(largest, std::abs(plain_[i]));
    error = std::max(error, std::abs(got[i] - plain_[i]));
  }
  EXPECT_LE(error, GetParam().error * largest);
  EXPECT_GT(error, 0);
}

/// What is on the grid already stays where it is.
TEST_P(RoundToNearestTest, IsIdempotent) {
  const QuantFormat& format = GetParam().format;
  if (format.codes == CodeType::kUInt4 && !format.has_zeros && format.ggml == GgmlType::kNone) {
    GTEST_SKIP() << "its grid reaches further down than up, so that scales shrink";
  }
  const std::vector<float> once = Values(Round().weight);
  plain_ = once;
  const std::vector<float> twice = Values(Round().weight);
  for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(twice[i], once[i], 3e-3) << i;
}

TEST_P(RoundToNearestTest, OutputsOfAreRows) {
  const CanonicalWeight made = Round();
  const std::vector<float> all = Values(made.weight);
  const std::vector<float> some = Values(OutputsOf(made.weight, 16, kOut));
  EXPECT_EQ(some, std::vector<float>(all.begin() + 16 * kIn, all.end()));
}

INSTANTIATE_TEST_SUITE_P(
    All, RoundToNearestTest,
    testing::Values(
        Case{"uint4_zeros", Scaled(CodeType::kUInt4, {1, 32}, true), 1.0F / 14},
        Case{"uint4", Scaled(CodeType::kUInt4, {1, 32}), 1.0F / 7},
        Case{"uint8_zeros", Scaled(CodeType::kUInt8, {1, 0}, true), 1.0F / 250},
        Case{"int8", Scaled(CodeType::kInt8, {1, 0}), 0.51F / 127},
        Case{"int8_groups", Scaled(CodeType::kInt8, {1, 32}), 0.51F / 127},
        Case{"fp8", Scaled(CodeType::kF8E4M3, {1, 0}), 1.0F / 16},
        Case{"fp8_block", Scaled(CodeType::kF8E4M3, {16, 32}), 1.0F / 16},
        Case{"nf4", Scaled(CodeType::kNf4, {1, 32}), 0.16F},
        Case{"q8_0",
             {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = GgmlType::kQ8_0},
             0.51F / 127}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace gale
