// How the KV cache holds what it does not hold as plain floats: codes beside a scale for each row.
// Layer L1b, shared by all devices; also compiled into device code.
//
// A row is the key or the value of one token in one head (of a latent cache, of one token).
//   element = scale * code + offset
//   fp8   e4m3 (f8.h)   scale = max |x| / 448                  offset = 0
//   int8  -127 to 127   scale = max |x| / 127                  offset = 0
//   int4  -8 to 7       scale = (max x - min x) / 15 in bf16   offset = min x + 8 * scale in bf16
// The offset is for keys, which have channels that lie to one side (arXiv:2402.02750, figure 2).
// A code is x / scale (int4: (x - offset) / scale), a product with 1 / scale in f32, to nearest
// even. A row that holds a NaN has a scale of NaN: it is not to pass for numbers.
//
// A block of the cache holds for each row KvRowBytes of codes and a word: the scale in f32, of int4
// scale and offset (in the upper half) in bf16. Where in the block they lie, and the order of
// elements in a row's codes, is the device's own: cpu/attention.cc, cuda/kv_codes.cuh.
#pragma once

#include <cstdint>

#include "base/rng.h"  // GALE_HOST_DEVICE
#include "gale/engine_config.h"
#include "tensor/dtype.h"

namespace gale {

/// What a cache of elements of `dtype`, f32 or bf16, is.
constexpr KvFormat PlainKv(DType dtype) {
  return dtype == DType::kF32 ? KvFormat::kF32 : KvFormat::kBf16;
}

GALE_HOST_DEVICE constexpr bool IsQuantized(KvFormat format) {
  return format != KvFormat::kF32 && format != KvFormat::kBf16;
}

GALE_HOST_DEVICE constexpr int KvElementBits(KvFormat format) {
  switch (format) {
    case KvFormat::kF32: return 32;
    case KvFormat::kBf16: return 16;
    case KvFormat::kFp8:
    case KvFormat::kInt8: return 8;
    case KvFormat::kInt4: return 4;
  }
  return 0;
}

/// Of `elements` elements, an even number, without their scale.
GALE_HOST_DEVICE constexpr int64_t KvRowBytes(KvFormat format, int64_t elements) {
  return elements * KvElementBits(format) / 8;
}

/// Of `rows` rows of `elements` elements with their scales.
constexpr int64_t KvBytes(KvFormat format, int64_t rows, int64_t elements) {
  const int64_t scale_bytes = IsQuantized(format) ? sizeof(uint32_t) : 0;
  return rows * (KvRowBytes(format, elements) + scale_bytes);
}

struct KvScale {
  float scale;
  float offset;
};

namespace internal {
/// f32 to the nearest bf16, ties to even; finite or the NaN of this file.
GALE_HOST_DEVICE constexpr float NearestBf16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  return __builtin_bit_cast(float, (bits + 0x7FFFU + (bits >> 16 & 1U)) & 0xFFFF0000U);
}
}  // namespace internal

/// The scale of a row whose elements go from `low` to `high`; NaN both where it holds one. A scale
/// is at least 2^-100, so that its inverse and its logarithm are finite.
GALE_HOST_DEVICE constexpr KvScale ScaleOfRow(KvFormat format, float low, float high) {
  constexpr float kLeast = 0x1p-100F;
  if (!(low <= high)) return {__builtin_bit_cast(float, 0x7FC00000U), 0};
  const float magnitude = -low > high ? -low : high;
  float scale = format == KvFormat::kInt4  ? (high - low) * (1.0F / 15)
                : format == KvFormat::kFp8 ? magnitude * (1.0F / 448)
                                           : magnitude * (1.0F / 127);
  scale = scale < kLeast ? kLeast : scale;
  if (format != KvFormat::kInt4) return {scale, 0};
  scale = internal::NearestBf16(scale);
  return {scale, internal::NearestBf16(low + 8 * scale)};
}

GALE_HOST_DEVICE constexpr uint32_t PackScale(KvFormat format, KvScale scale) {
  const auto bits = __builtin_bit_cast(uint32_t, scale.scale);
  if (format != KvFormat::kInt4) return bits;
  return bits >> 16 | (__builtin_bit_cast(uint32_t, scale.offset) & 0xFFFF0000U);
}

GALE_HOST_DEVICE constexpr KvScale UnpackScale(KvFormat format, uint32_t word) {
  if (format != KvFormat::kInt4) return {__builtin_bit_cast(float, word), 0};
  return {__builtin_bit_cast(float, word << 16), __builtin_bit_cast(float, word & 0xFFFF0000U)};
}

}  // namespace gale
