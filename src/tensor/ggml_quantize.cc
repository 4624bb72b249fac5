#include "tensor/ggml_quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace gale {
namespace {

/// Codes of a 4-bit block before the offset of 8.
struct Q4Trial {
  F16 scale;
  float error = 0;
};

float Inverse(F16 scale) {
  const float d = ToFloat(scale);
  return d == 0 ? 0 : 1 / d;
}

/// To the nearest whole number, ties to even, for |x| < 2^22; a loop of it becomes vectors, which
/// one of std::nearbyint does not on every x86-64.
float Round(float x) {
  constexpr float kMagic = 0x1.8p23F;  // the sum's last bit is worth 1
  return (x + kMagic) - kMagic;
}

float Clamp(float x, float low, float high) {
  const float raised = x < low ? low : x;
  return raised > high ? high : raised;
}

float Q4Code(float x, float inverse) { return Round(Clamp(x * inverse, -8, 7)); }

Q4Trial TryQ4(const float* x, float scale) {
  constexpr int64_t kChains = 4;  // sums side by side, for vectors
  Q4Trial trial{ToF16(scale)};
  const float inverse = Inverse(trial.scale);
  const float d = ToFloat(trial.scale);
  float sums[kChains] = {};
  for (int64_t i = 0; i < kGgmlBlockElements; i += kChains) {
    for (int64_t j = 0; j < kChains; ++j) {
      const float error = x[i + j] - d * Q4Code(x[i + j], inverse);
      sums[j] += error * error;
    }
  }
  trial.error = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return trial;
}

F16 BestQ4Scale(const float* x) {
  float largest = 0;
  for (int64_t i = 0; i < kGgmlBlockElements; ++i) {
    if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
  }
  Q4Trial best = TryQ4(x, largest / -8);
  for (const float steps : {-7.0F, -7.4F, -7.7F, -8.4F, -8.8F}) {
    const Q4Trial trial = TryQ4(x, largest / steps);
    if (trial.error < best.error) best = trial;
  }
  return best.scale;
}

void QuantizeQ4(const float* x, std::byte* block) {
  constexpr int64_t kHalf = kGgmlBlockElements / 2;
  const F16 scale = BestQ4Scale(x);
  std::memcpy(block, &scale, sizeof(scale));
  const float inverse = Inverse(scale);
  for (int64_t i = 0; i < kHalf; ++i) {
    const int low = static_cast<int>(Q4Code(x[i], inverse)) + 8;
    const int high = static_cast<int>(Q4Code(x[i + kHalf], inverse)) + 8;
    block[kGgmlScaleBytes + i] = static_cast<std::byte>(low | high << 4);
  }
}

void QuantizeQ8(const float* x, std::byte* block) {
  float largest = 0;
  for (int64_t i = 0; i < kGgmlBlockElements; ++i) largest = std::max(largest, std::abs(x[i]));
  const F16 scale = ToF16(largest / 127);
  std::memcpy(block, &scale, sizeof(scale));
  const float inverse = Inverse(scale);
  for (int64_t i = 0; i < kGgmlBlockElements; ++i) {
    // The scale's rounding may carry the largest past 127.
    const float code = Round(Clamp(x[i] * inverse, -127, 127));
    block[kGgmlScaleBytes + i] = static_cast<std::byte>(static_cast<int8_t>(code));
  }
}

}  // namespace

F16 ToF16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return {static_cast<uint16_t>(sign | 0x7E00U)};
  if (magnitude >= 0x477FF000U)
    return {static_cast<uint16_t>(sign | 0x7C00U)};  // rounds past 65504
  if (magnitude < 0x38800000U) {
    // Subnormal: the sum's last bit is worth 2^-24, so that the addition rounds.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3F000000U))};
  }
  const uint32_t odd = magnitude >> 13 & 1U;
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000U + 0xFFFU + odd) >> 13))};
}

void QuantizeBlock(GgmlType type, const float* x, std::byte* block) {
  GALE_CHECK(type == GgmlType::kQ8_0 || type == GgmlType::kQ4_0);
  (type == GgmlType::kQ8_0 ? QuantizeQ8 : QuantizeQ4)(x, block);
}

}  // namespace gale
