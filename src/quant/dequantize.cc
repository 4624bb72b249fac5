#include "quant/dequantize.h"

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"
#include "tensor/f8.h"
#include "tensor/ggml_block.h"
#include "tensor/nf4.h"

namespace gale {
namespace {

float FloatAt(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::kF32: return view.As<float>()[i];
    case DType::kF16: return ToFloat(view.As<F16>()[i]);
    case DType::kBf16: return ToFloat(view.As<Bf16>()[i]);
    default: break;
  }
  GALE_CHECK(false && "not a float dtype");
  return 0;
}

int CodeAt(const uint8_t* codes, CodeType type, int64_t i) {
  if (CodeBits(type) == 8) return codes[i];
  return i % 2 == 0 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
}

float Value(CodeType type, int code) {
  switch (type) {
    case CodeType::kUInt4:
    case CodeType::kUInt8: return static_cast<float>(code);
    case CodeType::kInt8: return static_cast<float>(static_cast<int8_t>(code));
    case CodeType::kF8E4M3: return ToFloat(F8E4M3{static_cast<uint8_t>(code)});
    case CodeType::kNf4: return kNf4[static_cast<size_t>(code)];
  }
  return 0;
}

int ImpliedZero(CodeType type) {
  if (type == CodeType::kUInt4) return 8;
  return type == CodeType::kUInt8 ? 128 : 0;
}

void DequantizeScaled(const LinearWeight& weight, int64_t row, std::span<float> out) {
  const QuantFormat& format = weight.format;
  const int64_t block_out = format.block.out == 0 ? weight.out : format.block.out;
  const int64_t block_in = format.block.in == 0 ? weight.in : format.block.in;
  const int64_t first_block = row / block_out * ((weight.in + block_in - 1) / block_in);
  const uint8_t* codes =
      weight.data.As<const uint8_t>() + row * weight.in * CodeBits(format.codes) / 8;
  for (int64_t i = 0; i < weight.in; ++i) {
    const int64_t block = first_block + i / block_in;
    const int zero =
        format.has_zeros ? weight.zeros.As<const uint8_t>()[block] : ImpliedZero(format.codes);
    const int64_t input = format.has_permutation ? weight.permutation.As<const int32_t>()[i] : i;
    out[static_cast<size_t>(input)] =
        weight.scales.As<const float>()[block] *
        (Value(format.codes, CodeAt(codes, format.codes, i)) - static_cast<float>(zero));
  }
}

}  // namespace

void DequantizeRow(const LinearWeight& weight, int64_t row, std::span<float> out) {
  GALE_CHECK_EQ(std::ssize(out), weight.in);
  switch (weight.format.code) {
    case BlockCode::kNone:
      for (int64_t i = 0; i < weight.in; ++i) {
        out[static_cast<size_t>(i)] = FloatAt(weight.data, row * weight.data.strides[0] + i);
      }
      return;
    case BlockCode::kGgmlBlock:
      return DequantizeBlocks(weight.format.ggml,
                              weight.data.As<const std::byte>() + row * weight.data.strides[0],
                              out);
    case BlockCode::kScaled: return DequantizeScaled(weight, row, out);
  }
}

}  // namespace gale
