// The 8-bit float e4m3 as stored (e4m3fn: one sign, four exponent and three mantissa bits, no
// infinities, NaN 0x7F and 0xFF). Arithmetic is always done in f32.
// Source: arXiv 2209.05433.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace gale {

struct F8E4M3 {
  uint8_t bits = 0;
};

inline constexpr float kMaxF8E4M3 = 448;

constexpr float ToFloat(F8E4M3 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80U) << 24;
  const uint32_t magnitude = x.bits & 0x7FU;
  if (magnitude == 0x7FU) return std::bit_cast<float>(sign | 0x7FC00000U);
  // Shifted into place the exponent is too small by 120; the product also normalizes subnormals.
  return std::bit_cast<float>(
      sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 20) * 0x1p120F));
}

/// Round to nearest, ties to even; what is larger than kMaxF8E4M3 becomes that; NaN stays NaN.
inline F8E4M3 ToF8E4M3(float x) {
  const auto sign = static_cast<uint8_t>(std::signbit(x) ? 0x80U : 0U);
  if (std::isnan(x)) return {static_cast<uint8_t>(sign | 0x7FU)};
  const float magnitude = std::fmin(std::fabs(x), kMaxF8E4M3);
  if (magnitude < 0x1p-6F) {  // a multiple of 2^-9, of which the eighth is the least normal number
    return {static_cast<uint8_t>(sign | static_cast<uint8_t>(std::nearbyint(magnitude * 0x1p9F)))};
  }
  const auto u = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = u + 0x7FFFFU + ((u >> 20) & 1U);
  return {static_cast<uint8_t>(sign | ((rounded >> 20) - (120U << 3)))};
}

}  // namespace gale
