// IEEE half precision as stored. Arithmetic is always done in f32.
#pragma once

#include <bit>
#include <cstdint>

namespace gale {

struct F16 {
  uint16_t bits = 0;
};

constexpr float ToFloat(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000U) << 16;
  const uint32_t magnitude = x.bits & 0x7FFFU;
  if (magnitude >= 0x7C00U) {  // infinity, or NaN with its payload
    return std::bit_cast<float>(sign | 0x7F800000U | (magnitude & 0x3FFU) << 13);
  }
  // Shifted into place the exponent is too small by 112; the product also normalizes subnormals.
  return std::bit_cast<float>(
      sign | std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112F));
}

}  // namespace gale
