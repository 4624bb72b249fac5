#include "tensor/ggml_quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

using Elements = std::array<float, kGgmlBlockElements>;

Elements RoundTrip(GgmlType type, const Elements& x) {
  std::vector<std::byte> block(static_cast<size_t>(GgmlBlockBytes(type)));
  QuantizeBlock(type, x.data(), block.data());
  Elements got;
  DequantizeBlock(type, block.data(), got.data());
  return got;
}

TEST(ToF16, EveryHalfComesBack) {
  for (uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const F16 half{static_cast<uint16_t>(bits)};
    const F16 got = ToF16(ToFloat(half));
    if (std::isnan(ToFloat(half))) {
      ASSERT_TRUE(std::isnan(ToFloat(got)));
    } else {
      ASSERT_EQ(got.bits, half.bits);
    }
  }
}

TEST(ToF16, RoundsToTheNearestAndTiesToEven) {
  for (const uint16_t low : {0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x3C01, 0x7BFE}) {
    const F16 below{low};
    const F16 above{static_cast<uint16_t>(low + 1)};
    const float middle = (ToFloat(below) + ToFloat(above)) / 2;
    EXPECT_EQ(ToF16(middle).bits, low % 2 == 0 ? below.bits : above.bits);
    EXPECT_EQ(ToF16(std::nextafter(middle, 0.0F)).bits, below.bits);
    EXPECT_EQ(ToF16(std::nextafter(middle, 1e9F)).bits, above.bits);
  }
  EXPECT_EQ(ToF16(65520.0F).bits, 0x7C00);
  EXPECT_EQ(ToF16(-std::numeric_limits<float>::infinity()).bits, 0xFC00);
}

TEST(QuantizeBlock, Q8IsWithinHalfAStep) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 200; ++trial) {
    Elements x;
    float largest = 0;
    for (float& value : x) largest = std::max(largest, std::abs(value = normal(random)));
    const Elements got = RoundTrip(GgmlType::kQ8_0, x);
    // The scale's own rounding, 2^-11, moves the largest code by up to 0.07 steps.
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(got[i], x[i], 0.58 * largest / 127);
  }
}

TEST(QuantizeBlock, BlocksOfTheFormatComeBackExactly) {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0}) {
    const int limit = type == GgmlType::kQ8_0 ? 127 : 7;
    Elements x;
    for (int i = 0; i < kGgmlBlockElements; ++i) {
      x[static_cast<size_t>(i)] = 0.25F * static_cast<float>((i * 11) % (2 * limit + 1) - limit);
    }
    x[3] = -0.25F * static_cast<float>(type == GgmlType::kQ8_0 ? 127 : 8);
    EXPECT_EQ(RoundTrip(type, x), x);
    EXPECT_EQ(RoundTrip(type, Elements{}), Elements{});
  }
}

/// Normal numbers: the search for the scale takes the error from 0.086 to 0.082.
TEST(QuantizeBlock, Q4ErrorOfNormalNumbers) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  double error = 0;
  double norm = 0;
  for (int trial = 0; trial < 500; ++trial) {
    Elements x;
    for (float& value : x) value = normal(random);
    const Elements got = RoundTrip(GgmlType::kQ4_0, x);
    for (size_t i = 0; i < x.size(); ++i) {
      error += std::pow(got[i] - x[i], 2);
      norm += std::pow(x[i], 2);
    }
  }
  EXPECT_LT(std::sqrt(error / norm), 0.083);
}

}  // namespace
}  // namespace gale
