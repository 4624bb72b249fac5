#include "weights/float_convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

constexpr int64_t kChunk = 1 << 18;  // elements of one task

template <class T>
T LoadElement(const std::byte* source, int64_t i) {
  T value;
  std::memcpy(&value, source + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

float LoadFloat(const std::byte* source, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return LoadElement<float>(source, i);
    case DType::kBf16: return ToFloat(LoadElement<Bf16>(source, i));
    default: return HalfToFloat(LoadElement<uint16_t>(source, i));
  }
}

void StoreFloat(float value, const TensorView& out, int64_t i) {
  switch (out.dtype) {
    case DType::kF32: out.As<float>()[i] = value; return;
    case DType::kBf16: out.As<Bf16>()[i] = ToBf16(value); return;
    default: out.As<uint16_t>()[i] = FloatToHalf(value); return;
  }
}

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16;
}

}  // namespace

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1FU;
  const uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -subnormal : subnormal;
}

uint16_t FloatToHalf(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000U);
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return sign | 0x7E00U;
  if (magnitude >= 0x477FF000U) return sign | 0x7C00U;  // 65520, the tie above the largest half
  if (magnitude < 0x38800000U) {                        // under 2^-14: subnormal, steps of 2^-24
    return sign | static_cast<uint16_t>(std::nearbyint(std::fabs(value) * 0x1p24F));
  }
  const uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return sign | static_cast<uint16_t>((rounded >> 13) - (112U << 10));
}

void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out,
                     ThreadPool& threads) {
  const int64_t elements = out.NumElements();
  GALE_CHECK_EQ(source.size(), static_cast<size_t>(elements) * DTypeBytes(dtype));
  GALE_CHECK(dtype == out.dtype || (IsFloat(dtype) && IsFloat(out.dtype)));
  threads.ParallelFor((elements + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(elements, begin + kChunk);
    if (dtype == out.dtype) {
      const auto size = static_cast<int64_t>(DTypeBytes(dtype));
      std::memcpy(static_cast<char*>(out.data) + begin * size, source.data() + begin * size,
                  static_cast<size_t>((end - begin) * size));
      return;
    }
    for (int64_t i = begin; i < end; ++i) StoreFloat(LoadFloat(source.data(), dtype, i), out, i);
  });
}

}  // namespace gale
