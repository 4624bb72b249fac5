#include "tensor/f8.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace gale {
namespace {

/// From the definition: sign, exponent less 7, mantissa in eighths.
float Defined(int bits) {
  const int exponent = bits >> 3 & 15;
  const float eighths = static_cast<float>(bits & 7) / 8;
  const float magnitude =
      exponent == 0 ? std::ldexp(eighths, -6) : std::ldexp(1 + eighths, exponent - 7);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

TEST(F8E4M3Test, EveryCodeIsItsNumberAndBack) {
  for (int bits = 0; bits < 256; ++bits) {
    const F8E4M3 code{static_cast<uint8_t>(bits)};
    if ((bits & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(ToFloat(code)));
      continue;
    }
    EXPECT_EQ(ToFloat(code), Defined(bits)) << bits;
    EXPECT_EQ(ToF8E4M3(ToFloat(code)).bits, bits);
  }
}

TEST(F8E4M3Test, RoundsToTheNearestAndTiesToEven) {
  for (int bits = 0; bits < 0x7E; ++bits) {
    const float low = Defined(bits);
    const float high = Defined(bits + 1);
    const float middle = (low + high) / 2;
    EXPECT_EQ(ToF8E4M3(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    EXPECT_EQ(ToF8E4M3(std::nextafter(middle, low)).bits, bits);
    EXPECT_EQ(ToF8E4M3(std::nextafter(middle, high)).bits, bits + 1);
    EXPECT_EQ(ToF8E4M3(-std::nextafter(middle, high)).bits, 0x80 | (bits + 1));
  }
}

TEST(F8E4M3Test, SaturatesAndKeepsNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ToFloat(ToF8E4M3(1e9F)), 448);
  EXPECT_EQ(ToFloat(ToF8E4M3(-infinity)), -448);
  EXPECT_TRUE(std::isnan(ToFloat(ToF8E4M3(std::nanf("")))));
}

}  // namespace
}  // namespace gale
