#include "tensor/ggml_block.h"

#include <cmath>

#include "base/check.h"

namespace gale {
namespace {

constexpr int kHalf = 16;  // bytes of the 4-bit codes of 32 elements

/// The levels of IQ4_NL and IQ4_XS, further apart where weights are rarer.
constexpr std::array<float, 16> kIq4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};

int Byte(const std::byte* p, int i) { return std::to_integer<int>(p[i]); }

int SignedByte(const std::byte* p, int i) { return static_cast<int8_t>(p[i]); }

float Half(const std::byte* p) {
  F16 value;
  std::memcpy(&value, p, sizeof(value));
  return ToFloat(value);
}

/// Code i of 32 that lie in 16 bytes.
int Nibble(const std::byte* codes, int i) {
  return i < kHalf ? Byte(codes, i) & 15 : Byte(codes, i - kHalf) >> 4;
}

int Bit(const std::byte* bits, int i) { return Byte(bits, i / 8) >> (i % 8) & 1; }

void DequantizeMxfp4(const std::byte* block, float* out) {
  constexpr std::array kHalves = {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 6.0F, 8.0F, 12.0F};
  const float half_scale = std::ldexp(1.0F, Byte(block, 0) - 128);
  for (int i = 0; i < 32; ++i) {
    const int code = Nibble(block + 1, i);
    const float magnitude = half_scale * kHalves[static_cast<size_t>(code & 7)];
    out[i] = code > 7 ? -magnitude : magnitude;
  }
}

/// d, codes of `kBits` bits from `offset` down; with kMin d, m and codes from 0 up.
template <int kBits, bool kMin>
void DequantizeSmall(const std::byte* block, float* out) {
  const float d = Half(block);
  const float m = kMin ? Half(block + 2) : 0;
  const std::byte* high = block + (kMin ? 4 : 2);
  const std::byte* codes = high + (kBits == 5 ? 4 : 0);
  for (int i = 0; i < 32; ++i) {
    int code = Nibble(codes, i);
    if constexpr (kBits == 5) code |= Bit(high, i) << 4;
    if constexpr (kMin) {
      out[i] = d * static_cast<float>(code) + m;
    } else {
      out[i] = d * static_cast<float>(code - (1 << (kBits - 1)));
    }
  }
}

void DequantizeQ8(const std::byte* block, float* out) {
  const float d = Half(block);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(SignedByte(block + kGgmlScaleBytes, i));
  }
}

void DequantizeIq4Nl(const std::byte* block, float* out) {
  const float d = Half(block);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * kIq4[static_cast<size_t>(Nibble(block + kGgmlScaleBytes, i))];
  }
}

/// 16 scales of 4 bits and above them minimums, 64 bytes of codes, d, and that of the minimums.
/// Code i of each 128 is two bits of byte i % 32.
void DequantizeQ2K(const std::byte* block, float* out) {
  const std::byte* codes = block + 16;
  const float d = Half(block + 80);
  const float d_min = Half(block + 82);
  for (int i = 0; i < 256; ++i) {
    const int scale = Byte(block, i / 16);
    const int code = Byte(codes, i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    out[i] = d * static_cast<float>(scale & 15) * static_cast<float>(code) -
             d_min * static_cast<float>(scale >> 4);
  }
}

/// 32 bytes of third bits, 64 of the other two, 12 of 16 scales of 6 bits, d. A code whose third
/// bit is missing is 4 less. Of the scales four bits are the halves of eight bytes, the others
/// pairs of bits of four more.
void DequantizeQ3K(const std::byte* block, float* out) {
  const std::byte* codes = block + 32;
  const std::byte* scales = block + 96;
  const float d = Half(block + 108);
  for (int i = 0; i < 256; ++i) {
    const int group = i / 16;
    const int low = group < 8 ? Byte(scales, group) & 15 : Byte(scales, group - 8) >> 4;
    const int high = Byte(scales, 8 + group % 4) >> (group / 4 * 2) & 3;
    const int code = Byte(codes, i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    const int third = Byte(block, i % 32) >> (i / 32) & 1;
    out[i] = d * static_cast<float>((low | high << 4) - 32) *
             static_cast<float>(code - (third == 0 ? 4 : 0));
  }
}

struct ScaleAndMin {
  int scale, min;
};

/// Of the eight groups of Q4_K and Q5_K, 6 bits each in 12 bytes: the first four lie in the low
/// bits of four bytes each, whose upper two are the upper two of the others.
ScaleAndMin GroupScale(const std::byte* scales, int group) {
  if (group < 4) return {Byte(scales, group) & 63, Byte(scales, group + 4) & 63};
  const int low = Byte(scales, group + 4);
  return {(low & 15) | Byte(scales, group - 4) >> 6 << 4, low >> 4 | Byte(scales, group) >> 6 << 4};
}

/// d, that of the minimums, scales; with 5 bits 32 bytes of fifth bits; 128 bytes of halves. Each
/// 64 elements are the low and then the high halves of 32 bytes.
GgmlSuperBlock SplitQ45K(const std::byte* block, bool has_fifth) {
  GgmlSuperBlock parts;
  std::memcpy(&parts.d, block, sizeof(parts.d));
  std::memcpy(&parts.d_min, block + 2, sizeof(parts.d_min));
  const std::byte* fifth = block + 16;
  const std::byte* codes = fifth + (has_fifth ? 32 : 0);
  for (size_t i = 0; i < parts.codes.size(); ++i) {
    const int group = static_cast<int>(i / 32);
    const int at = static_cast<int>(i % 32);
    int code = Byte(codes, group / 2 * 32 + at) >> (group % 2 * 4) & 15;
    if (has_fifth) code |= (Byte(fifth, at) >> group & 1) << 4;
    parts.codes[i] = static_cast<int8_t>(code);
  }
  for (int group = 0; group < 8; ++group) {
    const auto [scale, min] = GroupScale(block + 4, group);
    parts.scales[static_cast<size_t>(group)] = static_cast<int8_t>(scale);
    parts.mins[static_cast<size_t>(group)] = static_cast<int8_t>(min);
  }
  return parts;
}

/// 128 bytes of low halves, 64 of upper pairs of bits, 16 signed bytes of scales, d.
GgmlSuperBlock SplitQ6K(const std::byte* block) {
  const std::byte* high = block + 128;
  GgmlSuperBlock parts;
  parts.group = 16;
  std::memcpy(&parts.d, block + 208, sizeof(parts.d));
  std::memcpy(parts.scales.data(), block + 192, parts.scales.size());
  for (size_t i = 0; i < parts.codes.size(); ++i) {
    const int half = static_cast<int>(i / 128);
    const int at = static_cast<int>(i % 128);
    const int low = Byte(block, half * 64 + at % 64) >> (at / 64 * 4) & 15;
    const int code = low | (Byte(high, half * 32 + at % 32) >> (at / 32 * 2) & 3) << 4;
    parts.codes[i] = static_cast<int8_t>(code - 32);
  }
  return parts;
}

void DequantizeParts(const GgmlSuperBlock& parts, float* out) {
  const float d = ToFloat(parts.d);
  const float d_min = ToFloat(parts.d_min);
  for (size_t i = 0; i < parts.codes.size(); ++i) {
    const size_t group = i / static_cast<size_t>(parts.group);
    out[i] = d * static_cast<float>(parts.scales[group]) * static_cast<float>(parts.codes[i]) -
             d_min * static_cast<float>(parts.mins[group]);
  }
}

/// d, eight pairs of upper bits of scales, four bytes of their low halves, eight times IQ4_NL's
/// codes.
void DequantizeIq4Xs(const std::byte* block, float* out) {
  const float d = Half(block);
  for (int group = 0; group < 8; ++group) {
    const int low = Byte(block + 4, group / 2) >> (group % 2 * 4) & 15;
    const int high = Byte(block + 2, group / 4) >> (group % 4 * 2) & 3;
    const float group_d = d * static_cast<float>((low | high << 4) - 32);
    for (int i = 0; i < 32; ++i) {
      out[group * 32 + i] =
          group_d * kIq4[static_cast<size_t>(Nibble(block + 8 + group * kHalf, i))];
    }
  }
}

}  // namespace

GgmlSuperBlock SplitSuperBlock(GgmlType type, const std::byte* block) {
  switch (type) {
    case GgmlType::kQ4K: return SplitQ45K(block, /*has_fifth=*/false);
    case GgmlType::kQ5K: return SplitQ45K(block, /*has_fifth=*/true);
    case GgmlType::kQ6K: return SplitQ6K(block);
    default: break;
  }
  GALE_CHECK(false && "not Q4_K, Q5_K or Q6_K");
  return {};
}

void DequantizeBlock(GgmlType type, const std::byte* block, float* out) {
  switch (type) {
    case GgmlType::kQ4_0: return DequantizeSmall<4, false>(block, out);
    case GgmlType::kQ4_1: return DequantizeSmall<4, true>(block, out);
    case GgmlType::kQ5_0: return DequantizeSmall<5, false>(block, out);
    case GgmlType::kQ5_1: return DequantizeSmall<5, true>(block, out);
    case GgmlType::kQ8_0: return DequantizeQ8(block, out);
    case GgmlType::kMxfp4: return DequantizeMxfp4(block, out);
    case GgmlType::kIq4Nl: return DequantizeIq4Nl(block, out);
    case GgmlType::kQ2K: return DequantizeQ2K(block, out);
    case GgmlType::kQ3K: return DequantizeQ3K(block, out);
    case GgmlType::kQ4K:
    case GgmlType::kQ5K:
    case GgmlType::kQ6K: return DequantizeParts(SplitSuperBlock(type, block), out);
    case GgmlType::kIq4Xs: return DequantizeIq4Xs(block, out);
    case GgmlType::kNone: break;
  }
  GALE_CHECK(false && "not a block type");
}

void DequantizeBlocks(GgmlType type, const std::byte* blocks, std::span<float> out) {
  const int64_t elements = GgmlBlockElements(type);
  GALE_CHECK_EQ(std::ssize(out) % elements, 0);
  for (int64_t i = 0; i < std::ssize(out); i += elements) {
    DequantizeBlock(type, blocks, &out[static_cast<size_t>(i)]);
    blocks += GgmlBlockBytes(type);
  }
}

}  // namespace gale
