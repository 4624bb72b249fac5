// Element types. Layer L1a: known to the whole compute column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gale {

enum class DType : uint8_t { kF32, kF16, kBf16, kF8E4M3, kI8, kU8, kI32, kI64, kU64 };

constexpr size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF8E4M3:
    case DType::kI8:
    case DType::kU8: return 1;
    case DType::kF16:
    case DType::kBf16: return 2;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kI64:
    case DType::kU64: return 8;
  }
  return 0;
}

constexpr std::string_view DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBf16: return "bf16";
    case DType::kF8E4M3: return "f8_e4m3";
    case DType::kI8: return "i8";
    case DType::kU8: return "u8";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kU64: return "u64";
  }
  return "?";
}

}  // namespace gale
