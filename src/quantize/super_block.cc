#include "quantize/super_block.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "tensor/ggml_quantize.h"

namespace gale {
namespace {

constexpr int kGroup = 32;  // of Q4_K
constexpr int kGroups = 8;
constexpr int kSmall = 16;  // of Q6_K
constexpr int kSmalls = 16;
constexpr float kMostScale = 63;  // 6 bits

float Inverse(float x) { return x > 0 ? 1 / x : 0; }

/// Elements are step * code - min.
struct Range {
  float step = 0;
  float min = 0;
};

float RangeError(const float* x, const Range& range) {
  const float inverse = Inverse(range.step);
  float error = 0;
  for (int i = 0; i < kGroup; ++i) {
    const float code = std::clamp(std::nearbyint((x[i] + range.min) * inverse), 0.0F, 15.0F);
    const float left = x[i] - (range.step * code - range.min);
    error += left * left;
  }
  return error;
}

Range BestRange(const float* x) {
  const auto [low, high] = std::minmax_element(x, x + kGroup);
  const float min = std::max(0.0F, -*low);
  const float reach = std::max(*high, 0.0F) + min;
  Range best{reach / 15, min};
  float least = RangeError(x, best);
  for (const float share : {0.85F, 0.9F, 0.95F}) {
    for (const float min_share : {0.85F, 0.9F, 0.95F, 1.0F}) {
      const Range trial{reach * share / 15, min * min_share};
      const float error = RangeError(x, trial);
      if (error < least) {
        least = error;
        best = trial;
      }
    }
  }
  return best;
}

std::byte ToByte(int x) { return static_cast<std::byte>(x); }

/// 6 bits each: the lower four groups' in bytes of their own, whose upper two bits are those of the
/// upper four.
void PackScales(const std::array<int, kGroups>& scales, const std::array<int, kGroups>& mins,
                std::byte* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = ToByte(scales[i] | scales[i + 4] >> 4 << 6);
    out[i + 4] = ToByte(mins[i] | mins[i + 4] >> 4 << 6);
    out[i + 8] = ToByte((scales[i + 4] & 15) | (mins[i + 4] & 15) << 4);
  }
}

void QuantizeQ4K(const float* x, std::byte* block) {
  std::array<Range, kGroups> ranges;
  float most_step = 0;
  float most_min = 0;
  for (int g = 0; g < kGroups; ++g) {
    ranges[g] = BestRange(x + g * kGroup);
    most_step = std::max(most_step, ranges[g].step);
    most_min = std::max(most_min, ranges[g].min);
  }
  const std::array<F16, 2> units = {ToF16(most_step / kMostScale), ToF16(most_min / kMostScale)};
  std::memcpy(block, units.data(), sizeof(units));
  const float d = ToFloat(units[0]);
  const float d_min = ToFloat(units[1]);
  std::array<int, kGroups> scales;
  std::array<int, kGroups> mins;
  std::byte* codes = block + 16;
  std::memset(codes, 0, 128);
  for (int g = 0; g < kGroups; ++g) {
    const auto in_units = [](float value, float unit) {
      return static_cast<int>(std::clamp(std::nearbyint(value * Inverse(unit)), 0.0F, kMostScale));
    };
    scales[g] = in_units(ranges[g].step, d);
    mins[g] = in_units(ranges[g].min, d_min);
    const float inverse = Inverse(d * static_cast<float>(scales[g]));
    const float min = d_min * static_cast<float>(mins[g]);
    for (int i = 0; i < kGroup; ++i) {
      const float steps = std::nearbyint((x[g * kGroup + i] + min) * inverse);
      const int code = static_cast<int>(std::clamp(steps, 0.0F, 15.0F));
      codes[g / 2 * kGroup + i] |= ToByte(code << (g % 2 * 4));
    }
  }
  PackScales(scales, mins, block + 4);
}

void QuantizeQ6K(const float* x, std::byte* block) {
  std::array<float, kSmalls> largest;
  float most = 0;
  for (int g = 0; g < kSmalls; ++g) {
    const float* group = x + g * kSmall;
    largest[g] = *std::max_element(group, group + kSmall,
                                   [](float a, float b) { return std::abs(a) < std::abs(b); });
    most = std::max(most, std::abs(largest[g]));
  }
  // A group's largest number takes code -32, its scale the sign that this needs.
  const F16 unit = ToF16(most / 32 / 127);
  const float d = ToFloat(unit);
  std::memset(block, 0, 192);
  std::memcpy(block + 208, &unit, sizeof(unit));
  for (int g = 0; g < kSmalls; ++g) {
    const float wanted = std::nearbyint(largest[g] / -32 * Inverse(d));
    const int scale = static_cast<int>(std::clamp(wanted, -128.0F, 127.0F));
    block[192 + g] = ToByte(scale & 255);
    const float step = d * static_cast<float>(scale);
    for (int i = g * kSmall; i < (g + 1) * kSmall; ++i) {
      const float steps = step == 0 ? 0 : std::nearbyint(x[i] / step);
      const int code = static_cast<int>(std::clamp(steps, -32.0F, 31.0F)) + 32;
      const int half = i / 128;
      const int at = i % 128;
      block[half * 64 + at % 64] |= ToByte((code & 15) << (at / 64 * 4));
      block[128 + half * 32 + at % 32] |= ToByte(code >> 4 << (at / 32 * 2));
    }
  }
}

void Quantize(GgmlType type, const float* x, std::byte* block) {
  if (type == GgmlType::kQ4K) return QuantizeQ4K(x, block);
  if (type == GgmlType::kQ6K) return QuantizeQ6K(x, block);
  QuantizeBlock(type, x, block);
}

}  // namespace

std::string ToGgmlBlocks(const Matrix& weight, GgmlType type, ThreadPool& threads) {
  const GgmlTypeInfo info = GgmlInfo(type);
  GALE_CHECK_EQ(weight.cols() % info.elements, 0);
  const int64_t row_bytes = weight.cols() / info.elements * info.bytes;
  std::string bytes(static_cast<size_t>(weight.rows() * row_bytes), '\0');
  threads.ParallelFor(weight.rows(), [&](int64_t row, int) {
    auto* block = reinterpret_cast<std::byte*>(&bytes[static_cast<size_t>(row * row_bytes)]);
    for (int64_t i = 0; i < weight.cols(); i += info.elements, block += info.bytes) {
      Quantize(type, &weight(row, i), block);
    }
  });
  return bytes;
}

}  // namespace gale
