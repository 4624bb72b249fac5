#include "weights/float_convert.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"
#include "tensor/ggml_block.h"

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
    case DType::kF16: return ToFloat(LoadElement<F16>(source, i));
    default: GALE_CHECK(false && "not a float dtype"); return 0;
  }
}

void StoreFloat(float value, const TensorView& out, int64_t i) {
  if (out.dtype == DType::kF32) {
    out.As<float>()[i] = value;
  } else {
    out.As<Bf16>()[i] = ToBf16(value);
  }
}

/// Elements [begin, end).
void ConvertRange(const std::byte* source, DType dtype, const TensorView& out, int64_t begin,
                  int64_t end) {
  if (dtype != out.dtype) {
    for (int64_t i = begin; i < end; ++i) StoreFloat(LoadFloat(source, dtype, i), out, i);
    return;
  }
  const auto size = static_cast<int64_t>(DTypeBytes(dtype));
  std::memcpy(static_cast<char*>(out.data) + begin * size, source + begin * size,
              static_cast<size_t>((end - begin) * size));
}

/// Blocks [begin, end).
void ConvertBlockRange(const std::byte* source, GgmlType type, const TensorView& out, int64_t begin,
                       int64_t end) {
  const int64_t block_elements = GgmlBlockElements(type);
  std::array<float, kGgmlSuperBlockElements> elements;
  for (int64_t b = begin; b < end; ++b) {
    DequantizeBlock(type, source + b * GgmlBlockBytes(type), elements.data());
    for (int64_t i = 0; i < block_elements; ++i) {
      StoreFloat(elements[static_cast<size_t>(i)], out, b * block_elements + i);
    }
  }
}

int64_t CheckedElements(std::span<const std::byte> source, DType dtype, const TensorView& out) {
  const int64_t elements = out.NumElements();
  GALE_CHECK_EQ(source.size(), static_cast<size_t>(elements) * DTypeBytes(dtype));
  GALE_CHECK(dtype == out.dtype || out.dtype == DType::kF32 || out.dtype == DType::kBf16);
  return elements;
}

int64_t CheckedBlocks(std::span<const std::byte> source, GgmlType type, const TensorView& out) {
  const int64_t blocks = out.NumElements() / GgmlBlockElements(type);
  GALE_CHECK_EQ(source.size(), static_cast<size_t>(blocks * GgmlBlockBytes(type)));
  return blocks;
}

}  // namespace

void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out) {
  ConvertRange(source.data(), dtype, out, 0, CheckedElements(source, dtype, out));
}

void ConvertElements(std::span<const std::byte> source, DType dtype, const TensorView& out,
                     ThreadPool& threads) {
  const int64_t elements = CheckedElements(source, dtype, out);
  threads.ParallelFor((elements + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    ConvertRange(source.data(), dtype, out, begin, std::min(elements, begin + kChunk));
  });
}

void ConvertBlocks(std::span<const std::byte> source, GgmlType type, const TensorView& out) {
  ConvertBlockRange(source.data(), type, out, 0, CheckedBlocks(source, type, out));
}

void ConvertBlocks(std::span<const std::byte> source, GgmlType type, const TensorView& out,
                   ThreadPool& threads) {
  const int64_t blocks = CheckedBlocks(source, type, out);
  const int64_t of_task = kChunk / GgmlBlockElements(type);
  threads.ParallelFor((blocks + of_task - 1) / of_task, [&](int64_t task, int) {
    const int64_t begin = task * of_task;
    ConvertBlockRange(source.data(), type, out, begin, std::min(blocks, begin + of_task));
  });
}

}  // namespace gale
