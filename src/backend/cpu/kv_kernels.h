// Rows of a quantized KV cache to codes and back (backend/kv_format.h). Layer L1b; included by
// kernels_impl.h only, see there.
#pragma once

#include <cstring>

#include "backend/cpu/kernels.h"
#include "backend/cpu/simd.h"

namespace gale::GALE_SIMD {

/// e4m3 of x as f8.h has it, without branches: compilers make vectors of it.
GALE_INLINE uint8_t EncodeF8(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = bits >> 24 & 0x80U;
  bits &= 0x7FFFFFFFU;
  constexpr uint32_t kMost = 0x43E00000U;  // 448; NaN becomes it too, and the row's scale tells
  bits = bits < kMost ? bits : kMost;
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof(magnitude));
  const uint32_t normal = ((bits + 0x7FFFFU + (bits >> 20 & 1U)) >> 20) - (120U << 3);
  // Below 2^-6, a multiple of 2^-9: the last bits of a sum whose unit that is.
  magnitude += 0x1p14F;
  uint32_t subnormal;
  std::memcpy(&subnormal, &magnitude, sizeof(subnormal));
  return static_cast<uint8_t>(sign | (bits < 0x3C800000U ? subnormal & 0xFU : normal));
}

/// The least and the largest of n elements; NaN both if one is, or an infinity.
inline void RowRange(const float* x, int64_t n, float* low, float* high) {
  float least = x[0];
  float most = x[0];
  float nan = 0;
  for (int64_t i = 0; i < n; ++i) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
    nan += x[i] * 0;
  }
  *low = least + nan;
  *high = most + nan;
}

/// To the nearest of the integers from `least` to `most`; NaN: `least`.
GALE_INLINE int32_t NearestWithin(float x, float least, float most) {
  constexpr float kUnits = 0x1.8p23F;  // |x| < 2^22: the last bit of x + kUnits is worth 1
  const float rounded = x + kUnits - kUnits;
  return static_cast<int32_t>(rounded > least ? (rounded < most ? rounded : most) : least);
}

inline void EncodeKv(KvFormat format, const float* x, int64_t n, float scale, float offset,
                     uint8_t* codes) {
  const float inverse = 1 / scale;
  switch (format) {
    case KvFormat::kFp8:
      for (int64_t i = 0; i < n; ++i) codes[i] = EncodeF8(x[i] * inverse);
      break;
    case KvFormat::kInt8:
      for (int64_t i = 0; i < n; ++i) {
        codes[i] = static_cast<uint8_t>(NearestWithin(x[i] * inverse, -127, 127));
      }
      break;
    default:
      for (int64_t i = 0; i < n; ++i) {
        codes[i] = static_cast<uint8_t>(NearestWithin((x[i] - offset) * inverse, -8, 7) + 8);
      }
  }
}

/// Of the i-th kAttentionTile elements those from the at-th on.
template <KvFormat kFormat>
GALE_INLINE Vec LoadCodes(const uint8_t* codes, int64_t i, int at) {
  if constexpr (kFormat == KvFormat::kFp8) {
    return LoadF8(codes + i * kAttentionTile + at);
  } else if constexpr (kFormat == KvFormat::kInt8) {
    return LoadBytes(codes + i * kAttentionTile + at);
  } else {
    const Vec code = LoadNibbles(codes + i / 2 * kAttentionTile + at, i % 2 == 0 ? 0 : 4);
    return Sub(code, Broadcast(8.0F));
  }
}

template <KvFormat kFormat>
void UnpackKvAs(const uint8_t* codes, int64_t n, const float* scale, const float* offset,
                float* out) {
  constexpr int kVecs = kAttentionTile / kLanes;
  Vec scales[kVecs];
  Vec offsets[kVecs];
  for (int v = 0; v < kVecs; ++v) {
    scales[v] = Load(scale + v * kLanes);
    offsets[v] = Load(offset + v * kLanes);
  }
  for (int64_t i = 0; i < n / kAttentionTile; ++i) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec code = LoadCodes<kFormat>(codes, i, v * kLanes);
      Store(out + i * kAttentionTile + v * kLanes,
            kFormat == KvFormat::kInt4 ? Fma(code, scales[v], offsets[v]) : Mul(code, scales[v]));
    }
  }
}

inline void UnpackKv(KvFormat format, const uint8_t* codes, int64_t n, const float* scale,
                     const float* offset, float* out) {
  switch (format) {
    case KvFormat::kFp8: return UnpackKvAs<KvFormat::kFp8>(codes, n, scale, offset, out);
    case KvFormat::kInt8: return UnpackKvAs<KvFormat::kInt8>(codes, n, scale, offset, out);
    default: return UnpackKvAs<KvFormat::kInt4>(codes, n, scale, offset, out);
  }
}

}  // namespace gale::GALE_SIMD
