// The blocks of ggml's quantized types: 32 or 256 elements whose scales lie with them, so that a
// row of a matrix is a whole number of blocks. Scales d and minimums m are f16, codes q small
// integers. Of 32 elements; codes of 4 bits are 16 bytes, whose low halves are q[0..15], high
// halves q[16..31]:
//   Q8_0   34 bytes: d, q signed bytes;                       element i is d * q[i]
//   Q4_0   18 bytes: d, q;                                    d * (q[i] - 8)
//   Q4_1   20 bytes: d, m, q;                                 d * q[i] + m
//   Q5_0   22 bytes: d, the fifth bits as 32 bits, the rest;  d * (q[i] - 16)
//   Q5_1   24 bytes: d, m, the same;                          d * q[i] + m
//   IQ4_NL 18 bytes: d, q;                                    d * kIq4[q[i]]
//   MXFP4  17 bytes: e, q;              2^(e - 127) * e2m1(q[i]): a sign, two exponent, one
//   mantissa
// Of 256 elements, the scales of 16 or 32 of them being integers times one or two f16
// (ggml_block.cc has where their bits lie): Q2_K 84 bytes, Q3_K 110, Q4_K 144, Q5_K 176, Q6_K 210,
// IQ4_XS 136. Products of scales and codes are exact in f32; a minimum's addition rounds once.
// Layer L1a. Source: ggml's block_q4_0 and so on; OCP Microscaling Formats 1.0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "tensor/f16.h"
#include "tensor/quant_format.h"

namespace gale {

/// Of the types that have 32, which kernels with code of their own for Q8_0 and Q4_0 count in.
inline constexpr int64_t kGgmlBlockElements = 32;
inline constexpr int64_t kGgmlSuperBlockElements = 256;
inline constexpr int64_t kGgmlScaleBytes = 2;

struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;  ///< in GGUF files
  int64_t elements;       ///< of a block
  int64_t bytes;
};
inline constexpr std::array kGgmlTypes = {
    GgmlTypeInfo{GgmlType::kQ4_0, "Q4_0", 32, 18},
    GgmlTypeInfo{GgmlType::kQ8_0, "Q8_0", 32, 34},
    GgmlTypeInfo{GgmlType::kMxfp4, "MXFP4", 32, 17},
    GgmlTypeInfo{GgmlType::kQ4_1, "Q4_1", 32, 20},
    GgmlTypeInfo{GgmlType::kQ5_0, "Q5_0", 32, 22},
    GgmlTypeInfo{GgmlType::kQ5_1, "Q5_1", 32, 24},
    GgmlTypeInfo{GgmlType::kIq4Nl, "IQ4_NL", 32, 18},
    GgmlTypeInfo{GgmlType::kQ2K, "Q2_K", 256, 84},
    GgmlTypeInfo{GgmlType::kQ3K, "Q3_K", 256, 110},
    GgmlTypeInfo{GgmlType::kQ4K, "Q4_K", 256, 144},
    GgmlTypeInfo{GgmlType::kQ5K, "Q5_K", 256, 176},
    GgmlTypeInfo{GgmlType::kQ6K, "Q6_K", 256, 210},
    GgmlTypeInfo{GgmlType::kIq4Xs, "IQ4_XS", 256, 136},
};

/// Of kNone one element of no bytes.
constexpr GgmlTypeInfo GgmlInfo(GgmlType type) {
  for (const GgmlTypeInfo& info : kGgmlTypes) {
    if (info.type == type) return info;
  }
  return {GgmlType::kNone, "none", 1, 0};
}
constexpr int64_t GgmlBlockElements(GgmlType type) { return GgmlInfo(type).elements; }
constexpr int64_t GgmlBlockBytes(GgmlType type) { return GgmlInfo(type).bytes; }
constexpr std::string_view GgmlTypeName(GgmlType type) { return GgmlInfo(type).name; }

/// Of `elements`, a multiple of a block's.
constexpr int64_t GgmlRowBytes(GgmlType type, int64_t elements) {
  return elements / GgmlBlockElements(type) * GgmlBlockBytes(type);
}

/// A block of 256 before it is multiplied out: element i is
/// d * scales[i / group] * codes[i] - d_min * mins[i / group].
struct GgmlSuperBlock {
  F16 d, d_min;
  int group = 32;
  std::array<int8_t, 16> scales = {};  ///< the first 256 / group of them
  std::array<int8_t, 16> mins = {};
  std::array<int8_t, kGgmlSuperBlockElements> codes = {};
};
/// Of Q4_K, Q5_K (codes from 0 up) or Q6_K (no minimums).
GgmlSuperBlock SplitSuperBlock(GgmlType type, const std::byte* block);

/// One block's elements in f32.
void DequantizeBlock(GgmlType type, const std::byte* block, float* out);

/// Of blocks that follow one another. out.size() is a multiple of a block's elements.
void DequantizeBlocks(GgmlType type, const std::byte* blocks, std::span<float> out);

}  // namespace gale
