// The blocks of ggml's quantized types: 32 elements that share a scale d in front of them, in f16
// or, of MXFP4, as an exponent.
//   Q8_0  34 bytes: d, then 32 signed bytes q;                             element i is d * q[i]
//   Q4_0  18 bytes: d, then 16 bytes, whose low halves are q[0..15] and high halves q[16..31];
//                   element i is d * (q[i] - 8)
//   MXFP4 17 bytes: e, d being 2^(e - 127), then 16 bytes like Q4_0's, of numbers of one sign, two
//                   exponent and one mantissa bits;                element i is d * e2m1(q[i])
// A row of a matrix is a whole number of blocks. Products of d and q are exact in f32.
// Layer L1a. Source: ggml's definitions of block_q4_0, block_q8_0 and block_mxfp4; OCP Microscaling
// Formats 1.0.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "tensor/f16.h"
#include "tensor/quant_format.h"

namespace gale {

inline constexpr int64_t kGgmlBlockElements = 32;
inline constexpr int64_t kGgmlScaleBytes = 2;

constexpr int64_t GgmlBlockBytes(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0: return kGgmlScaleBytes + kGgmlBlockElements / 2;
    case GgmlType::kQ8_0: return kGgmlScaleBytes + kGgmlBlockElements;
    case GgmlType::kMxfp4: return 1 + kGgmlBlockElements / 2;
    case GgmlType::kNone: break;
  }
  return 0;
}

/// Of `elements`, a multiple of kGgmlBlockElements.
constexpr int64_t GgmlRowBytes(GgmlType type, int64_t elements) {
  return elements / kGgmlBlockElements * GgmlBlockBytes(type);
}

constexpr std::string_view GgmlTypeName(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4_0: return "Q4_0";
    case GgmlType::kQ8_0: return "Q8_0";
    case GgmlType::kMxfp4: return "MXFP4";
    case GgmlType::kNone: break;
  }
  return "none";
}

inline void DequantizeMxfp4(const std::byte* block, float* out) {
  constexpr std::array kHalves = {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 6.0F, 8.0F, 12.0F};
  constexpr int64_t kHalf = kGgmlBlockElements / 2;
  const float half_scale = std::ldexp(1.0F, static_cast<int>(block[0]) - 128);
  for (int64_t i = 0; i < kGgmlBlockElements; ++i) {
    const int byte = static_cast<int>(block[1 + i % kHalf]);
    const int code = i < kHalf ? byte & 15 : byte >> 4;
    const float magnitude = half_scale * kHalves[static_cast<size_t>(code & 7)];
    out[i] = code > 7 ? -magnitude : magnitude;
  }
}

/// One block's elements in f32.
inline void DequantizeBlock(GgmlType type, const std::byte* block, float* out) {
  if (type == GgmlType::kMxfp4) return DequantizeMxfp4(block, out);
  F16 scale;
  std::memcpy(&scale, block, sizeof(scale));
  const float d = ToFloat(scale);
  const std::byte* q = block + kGgmlScaleBytes;
  constexpr int64_t kHalf = kGgmlBlockElements / 2;
  for (int64_t i = 0; i < kGgmlBlockElements; ++i) {
    if (type == GgmlType::kQ8_0) {
      out[i] = d * static_cast<float>(static_cast<int8_t>(q[i]));
    } else {
      const int byte = static_cast<int>(q[i % kHalf]);
      out[i] = d * static_cast<float>((i < kHalf ? byte & 15 : byte >> 4) - 8);
    }
  }
}

}  // namespace gale
