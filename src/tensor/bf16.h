// bfloat16 as stored: the upper half of an f32. Arithmetic is always done in f32.
#pragma once

#include <bit>
#include <cstdint>

namespace gale {

struct Bf16 {
  uint16_t bits = 0;
};

constexpr float ToFloat(Bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}

/// Round to nearest, ties to even; NaN stays NaN.
constexpr Bf16 ToBf16(float x) {
  const auto u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7FFFFFFFU) > 0x7F800000U) {
    return Bf16{static_cast<uint16_t>((u >> 16) | 0x40U)};
  }
  return Bf16{static_cast<uint16_t>((u + 0x7FFFU + ((u >> 16) & 1U)) >> 16)};
}

}  // namespace gale
