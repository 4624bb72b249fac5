// A quantized KV cache (backend/kv_format.h) on the device: rows written by a warp each; read as
// pairs of halves, which hold every code exactly, or as the elements in bf16. Layer L1b, device
// side.
//
// What belongs to kKvTile positions of a block lies together, so that one copy brings it:
//   [layer][kv_head][tile]  codes [k, v][position][padded_dim], then scale words [k, v][position]
// A latent cache has no v. Sixteen bytes of codes change places within their 128 (Swizzled), such
// that reads from shared memory, where a tile is as it lies here, go to different banks. A row's
// elements are in order: fp8 has a byte each, int8 code + 128; int4 code + 8 in half a byte, the
// first of two in the low one.
#pragma once

#include <type_traits>

#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/kv_format.h"

namespace gale::cuda {

constexpr int kKvTile = 16;

/// Where what is `offset` bytes into the codes of a tile lies.
__host__ __device__ constexpr int Swizzled(int offset) { return offset ^ (offset >> 7 & 7) << 4; }

/// Codes and scales of a tile, whose positions have `parts` rows of `row_bytes` each.
__host__ __device__ constexpr int KvTileBytes(int parts, int row_bytes) {
  return parts * kKvTile * (row_bytes + static_cast<int>(sizeof(uint32_t)));
}

/// A row in its tile.
struct KvRow {
  uint8_t* tile;
  int begin;  // of its codes, before they change places
  uint32_t* scale;

  __device__ __forceinline__ uint8_t* At(int byte) const { return tile + Swizzled(begin + byte); }
};

/// The tile of a kv head that the offset-th position of a block is in.
__device__ __forceinline__ uint8_t* KvTileAt(const KvLayout& cache, int64_t block, int layer,
                                             int kv_head, int offset) {
  const int parts = cache.rows_per_token / cache.kv_heads;
  const int row_bytes = static_cast<int>(KvRowBytes(cache.format, cache.padded_dim));
  const int64_t head = int64_t{layer} * cache.kv_heads + kv_head;
  const int64_t tile = (head << cache.block_shift) / kKvTile + offset / kKvTile;
  return reinterpret_cast<uint8_t*>(cache.blocks) + block * cache.block_bytes +
         tile * KvTileBytes(parts, row_bytes);
}

/// The row of a key or, `head` kv_heads on, a value.
__device__ __forceinline__ KvRow KvRowAt(const KvLayout& cache, int64_t block, int layer, int head,
                                         int offset) {
  const int parts = cache.rows_per_token / cache.kv_heads;
  const int row_bytes = static_cast<int>(KvRowBytes(cache.format, cache.padded_dim));
  const int part = head >= cache.kv_heads ? 1 : 0;
  const int row = part * kKvTile + offset % kKvTile;
  uint8_t* tile = KvTileAt(cache, block, layer, head - part * cache.kv_heads, offset);
  return {tile, row * row_bytes,
          reinterpret_cast<uint32_t*>(tile + parts * kKvTile * row_bytes) + row};
}

__device__ __forceinline__ uint32_t EncodeF8(float x) {
  return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}
/// To the nearest integer from `least` to `most`.
__device__ __forceinline__ int NearestWithin(float x, int least, int most) {
  return min(max(__float2int_rn(x), least), most);
}

/// Writes head_dim elements and the padding as the codes of a row; by a whole warp.
template <class T>
__device__ __forceinline__ void WriteKvRow(const KvLayout& cache, const KvRow& row, const T* x) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float low = ToF32(x[0]);
  float high = low;
  float nan = 0;
  for (int d = lane; d < cache.head_dim; d += kWarp) {
    const float value = ToF32(x[d]);
    low = fminf(low, value);
    high = fmaxf(high, value);
    nan += value * 0;
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    low = fminf(low, __shfl_xor_sync(~0U, low, offset));
    high = fmaxf(high, __shfl_xor_sync(~0U, high, offset));
  }
  nan = WarpAdd(nan);
  const KvScale scale = ScaleOfRow(cache.format, low + nan, high + nan);
  const float inverse = 1 / scale.scale;
  if (lane == 0) *row.scale = PackScale(cache.format, scale);
  const auto code = [&](int d) -> uint32_t {
    const float value = d < cache.head_dim ? ToF32(x[d]) : 0.0F;
    switch (cache.format) {
      case KvFormat::kFp8: return EncodeF8(value * inverse);
      case KvFormat::kInt8:
        return static_cast<uint32_t>(NearestWithin(value * inverse, -127, 127) + 128);
      default:
        return static_cast<uint32_t>(NearestWithin((value - scale.offset) * inverse, -8, 7) + 8);
    }
  };
  for (int d = 2 * lane; d < cache.padded_dim; d += 2 * kWarp) {
    const uint32_t first = code(d);
    const uint32_t second = code(d + 1);
    if (cache.format == KvFormat::kInt4) {
      *row.At(d / 2) = static_cast<uint8_t>(first | second << 4);
    } else {
      *reinterpret_cast<uint16_t*>(row.At(d)) = static_cast<uint16_t>(first | second << 8);
    }
  }
}

/// Element d of a row: what plain code reads.
__device__ __forceinline__ float KvElement(KvFormat format, const KvRow& row, KvScale scale,
                                           int d) {
  float code;
  if (format == KvFormat::kFp8) {
    code = __half2float(__half(__nv_cvt_fp8_to_halfraw(*row.At(d), __NV_E4M3)));
  } else if (format == KvFormat::kInt8) {
    code = static_cast<float>(static_cast<int>(*row.At(d)) - 128);
  } else {
    code = static_cast<float>((*row.At(d / 2) >> d % 2 * 4 & 15) - 8);
  }
  return fmaf(code, scale.scale, scale.offset);
}

/// Elements that a 32-bit word of codes has.
template <KvFormat kFormat>
constexpr int kWordElements = 32 / KvElementBits(kFormat);

__device__ __forceinline__ uint32_t BytesOf(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}
__device__ __forceinline__ uint32_t AddHalves(uint32_t x, uint32_t y) {
  uint32_t sum;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(x), "r"(y));
  return sum;
}
__device__ __forceinline__ uint32_t HalvesOfF8(uint32_t two_codes) {
  uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(two_codes)));
  return halves;
}

// 0x64xx is 1,024 + xx as a half.
constexpr uint32_t kHalves1024 = 0x64006400;

/// Bytes 2i and 2i + 1 of int8 codes.
__device__ __forceinline__ uint32_t HalvesOfInt8(uint32_t codes, int i) {
  constexpr uint32_t kMinus1152 = 0xE480E480;
  return AddHalves(BytesOf(codes, kHalves1024 >> 8, i == 0 ? 0x4140 : 0x4342), kMinus1152);
}
/// Half bytes 0 and 4 of int4 codes (kHigh: 1 and 5).
template <bool kHigh>
__device__ __forceinline__ uint32_t HalvesOfInt4(uint32_t codes) {
  if constexpr (kHigh) {
    uint32_t halves;  // (1,024 + 16 x) / 16 - 72
    asm("fma.rn.f16x2 %0, %1, %2, %3;"
        : "=r"(halves)
        : "r"((codes & 0x00F000F0U) | kHalves1024), "r"(0x2C002C00U), "r"(0xD480D480U));
    return halves;
  } else {
    constexpr uint32_t kMinus1032 = 0xE408E408;
    return AddHalves((codes & 0x000F000FU) | kHalves1024, kMinus1032);
  }
}

/// A word's codes in pairs, exactly: elements (2i, 2i + 1) or, of int4, (i, i + 4).
template <KvFormat kFormat>
__device__ __forceinline__ void CodePairs(uint32_t word,
                                          uint32_t (&pairs)[kWordElements<kFormat> / 2]) {
  if constexpr (kFormat == KvFormat::kFp8) {
    pairs[0] = HalvesOfF8(word);
    pairs[1] = HalvesOfF8(word >> 16);
  } else if constexpr (kFormat == KvFormat::kInt8) {
    pairs[0] = HalvesOfInt8(word, 0);
    pairs[1] = HalvesOfInt8(word, 1);
  } else {
    pairs[0] = HalvesOfInt4<false>(word);
    pairs[1] = HalvesOfInt4<true>(word);
    pairs[2] = HalvesOfInt4<false>(word >> 8);
    pairs[3] = HalvesOfInt4<true>(word >> 8);
  }
}

/// The codes of two rows side by side: pairs[i] has element i of `a`, and in its upper half of `b`.
template <KvFormat kFormat>
__device__ __forceinline__ void CodePairsOf(uint32_t a, uint32_t b,
                                            uint32_t (&pairs)[kWordElements<kFormat>]) {
  if constexpr (kFormat == KvFormat::kInt4) {
    const uint32_t low = BytesOf(a, b, 0x5410);
    const uint32_t high = BytesOf(a, b, 0x7632);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      pairs[2 * i] = HalvesOfInt4<false>(low >> 8 * i);
      pairs[2 * i + 1] = HalvesOfInt4<true>(low >> 8 * i);
      pairs[4 + 2 * i] = HalvesOfInt4<false>(high >> 8 * i);
      pairs[5 + 2 * i] = HalvesOfInt4<true>(high >> 8 * i);
    }
  } else {
    const uint32_t low = BytesOf(a, b, 0x5140);
    const uint32_t high = BytesOf(a, b, 0x7362);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if constexpr (kFormat == KvFormat::kFp8) {
        pairs[i] = HalvesOfF8(low >> 16 * i);
        pairs[2 + i] = HalvesOfF8(high >> 16 * i);
      } else {
        pairs[i] = HalvesOfInt8(low, i);
        pairs[2 + i] = HalvesOfInt8(high, i);
      }
    }
  }
}

/// Elements of a unit that Dequantize makes.
constexpr int kKvUnit = 16;

/// Two elements in bf16, of halves that hold their codes.
__device__ __forceinline__ uint32_t ScalePair(uint32_t halves, KvScale scale) {
  const float2 codes = __half22float2(reinterpret_cast<const __half2&>(halves));
  return PackBf16(fmaf(codes.x, scale.scale, scale.offset),
                  fmaf(codes.y, scale.scale, scale.offset));
}

/// kKvUnit elements of a row, on their way to bf16.
template <KvFormat kFormat>
struct KvUnit {
  uint32_t codes[kKvUnit / kWordElements<kFormat>];
  uint32_t scale;

  /// The index-th unit of the row, which may lie in shared memory.
  __device__ __forceinline__ void Load(const KvRow& row, int index) {
    const uint8_t* address = row.At(index * static_cast<int>(sizeof(codes)));
    if constexpr (kFormat == KvFormat::kInt4) {
      const uint2 words = *reinterpret_cast<const uint2*>(address);
      codes[0] = words.x;
      codes[1] = words.y;
    } else {
      const uint4 words = *reinterpret_cast<const uint4*>(address);
      codes[0] = words.x;
      codes[1] = words.y;
      codes[2] = words.z;
      codes[3] = words.w;
    }
    scale = *row.scale;
  }

  __device__ __forceinline__ void Dequantize(uint4 (&elements)[2]) const {
    const KvScale of = UnpackScale(kFormat, scale);
    uint32_t out[kKvUnit / 2];
    constexpr int kPairs = kWordElements<kFormat> / 2;
#pragma unroll
    for (int w = 0; w < kKvUnit / kWordElements<kFormat>; ++w) {
      uint32_t pairs[kPairs];
      CodePairs<kFormat>(codes[w], pairs);
      if constexpr (kFormat == KvFormat::kInt4) {
        out[4 * w] = ScalePair(BytesOf(pairs[0], pairs[1], 0x5410), of);
        out[4 * w + 1] = ScalePair(BytesOf(pairs[2], pairs[3], 0x5410), of);
        out[4 * w + 2] = ScalePair(BytesOf(pairs[0], pairs[1], 0x7632), of);
        out[4 * w + 3] = ScalePair(BytesOf(pairs[2], pairs[3], 0x7632), of);
      } else {
        out[2 * w] = ScalePair(pairs[0], of);
        out[2 * w + 1] = ScalePair(pairs[1], of);
      }
    }
    elements[0] = {out[0], out[1], out[2], out[3]};
    elements[1] = {out[4], out[5], out[6], out[7]};
  }
};

/// Calls `run` with a std::integral_constant of the quantized format.
template <class Run>
__device__ __forceinline__ void WithFormat(KvFormat format, Run&& run) {
  switch (format) {
    case KvFormat::kFp8: return run(std::integral_constant<KvFormat, KvFormat::kFp8>());
    case KvFormat::kInt8: return run(std::integral_constant<KvFormat, KvFormat::kInt8>());
    default: return run(std::integral_constant<KvFormat, KvFormat::kInt4>());
  }
}

}  // namespace gale::cuda
