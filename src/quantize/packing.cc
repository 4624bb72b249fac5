#include "quantize/packing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"
#include "tensor/f8.h"
#include "tensor/ggml_quantize.h"

namespace gale {
namespace {

constexpr int64_t kFp8Block = 128;
constexpr float kMaxInt8 = 127;

template <class T>
std::string AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// rows x columns codes, packed into words along one of the two; place i of a word is its bits
/// [i * bits, (i + 1) * bits).
struct Packer {
  int64_t rows;
  int64_t columns;
  int bits;

  int64_t in_word() const { return 32 / bits; }
  /// [rows, columns / in_word]; place i of a word is column order[i] of its columns.
  template <class CodeAt>
  std::string AlongColumns(const std::array<int, 8>& order, CodeAt&& code_at) const {
    std::vector<uint32_t> words(static_cast<size_t>(rows * columns / in_word()));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t word = 0; word < columns / in_word(); ++word) {
        uint32_t& packed = words[static_cast<size_t>(row * columns / in_word() + word)];
        for (int64_t i = 0; i < in_word(); ++i) {
          const int64_t column = word * in_word() + order[static_cast<size_t>(i)];
          packed |= static_cast<uint32_t>(code_at(row, column)) << (i * bits);
        }
      }
    }
    return AsBytes(words);
  }
  /// [rows / in_word, columns].
  template <class CodeAt>
  std::string AlongRows(CodeAt&& code_at) const {
    std::vector<uint32_t> words(static_cast<size_t>(rows / in_word() * columns));
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t first = row / in_word() * columns;
      const int64_t shift = row % in_word() * bits;
      for (int64_t column = 0; column < columns; ++column) {
        words[static_cast<size_t>(first + column)] |= static_cast<uint32_t>(code_at(row, column))
                                                      << shift;
      }
    }
    return AsBytes(words);
  }
};

constexpr std::array<int, 8> kInOrder = {0, 1, 2, 3, 4, 5, 6, 7};
/// AutoAWQ's kernels take even and odd places apart.
constexpr std::array<int, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

std::vector<float> TransposedScales(const IntegerWeight& weight) {
  const int64_t groups = weight.format.NumGroups(weight.in);
  std::vector<float> scales(weight.scales.size());
  for (int64_t row = 0; row < weight.out; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      scales[static_cast<size_t>(g * weight.out + row)] =
          weight.scales[static_cast<size_t>(row * groups + g)];
    }
  }
  return scales;
}

std::string SafetensorsName(DType dtype) {
  if (dtype == DType::kF32) return "F32";
  return dtype == DType::kF16 ? "F16" : "BF16";
}

OutputTensor ScaleTensor(std::string name, std::vector<int64_t> shape,
                         std::span<const float> values, DType dtype) {
  return {std::move(name), SafetensorsName(dtype), std::move(shape), ToBytes(values, dtype)};
}

/// How far the codes of one scale reach: blocks of a matrix.
struct Blocks {
  int64_t rows;
  int64_t columns;
};

Blocks BlocksOf(QuantizeContainer container, const Matrix& weight) {
  if (container == QuantizeContainer::kFp8Block) return {kFp8Block, kFp8Block};
  if (container == QuantizeContainer::kFp8Tensor) return {weight.rows(), weight.cols()};
  return {1, weight.cols()};
}

float Rounded(float x, DType dtype) {
  if (dtype == DType::kF16) return ToFloat(ToF16(x));
  return dtype == DType::kBf16 ? ToFloat(ToBf16(x)) : x;
}

}  // namespace

std::string ToBytes(std::span<const float> values, DType dtype) {
  std::string bytes(values.size() * DTypeBytes(dtype), '\0');
  for (size_t i = 0; i < values.size(); ++i) {
    char* to = &bytes[i * DTypeBytes(dtype)];
    if (dtype == DType::kF32) {
      std::memcpy(to, &values[i], sizeof(float));
    } else {
      const uint16_t bits = dtype == DType::kF16 ? ToF16(values[i]).bits : ToBf16(values[i]).bits;
      std::memcpy(to, &bits, sizeof(bits));
    }
  }
  return bytes;
}

std::vector<OutputTensor> PackIntegers(const std::string& name, const IntegerWeight& weight,
                                       QuantizeContainer container) {
  const int64_t in = weight.in;
  const int64_t out = weight.out;
  const int bits = weight.format.bits;
  const int64_t in_word = 32 / bits;
  const int64_t groups = weight.format.NumGroups(in);
  const auto code = [&](int64_t row, int64_t input) {
    return weight.codes[static_cast<size_t>(row * in + input)];
  };
  const auto zero = [&](int64_t row, int64_t group) {
    return weight.zeros[static_cast<size_t>(row * groups + group)];
  };
  const auto input_first = [](const auto& at) {
    return [&at](int64_t input, int64_t row) { return at(row, input); };
  };
  switch (container) {
    case QuantizeContainer::kAwq:
      return {{name + ".qweight",
               "I32",
               {in, out / in_word},
               Packer{in, out, bits}.AlongColumns(kAwqOrder, input_first(code))},
              {name + ".qzeros",
               "I32",
               {groups, out / in_word},
               Packer{groups, out, bits}.AlongColumns(kAwqOrder, input_first(zero))},
              ScaleTensor(name + ".scales", {groups, out}, TransposedScales(weight), DType::kF16)};
    case QuantizeContainer::kGptq: {
      const int mask = weight.format.num_codes() - 1;
      // Version 1 of the format stores zeros less one, in as many bits.
      const auto stored = [&](int64_t group, int64_t row) { return (zero(row, group) - 1) & mask; };
      return {{name + ".qweight",
               "I32",
               {in / in_word, out},
               Packer{in, out, bits}.AlongRows(input_first(code))},
              {name + ".qzeros",
               "I32",
               {groups, out / in_word},
               Packer{groups, out, bits}.AlongColumns(kInOrder, stored)},
              ScaleTensor(name + ".scales", {groups, out}, TransposedScales(weight), DType::kF16),
              {name + ".g_idx", "I32", {in}, AsBytes(weight.group_of)}};
    }
    case QuantizeContainer::kPackedInt: {
      std::vector<OutputTensor> tensors = {
          {name + ".weight_packed",
           "I32",
           {out, in / in_word},
           Packer{out, in, bits}.AlongColumns(kInOrder, code)},
          ScaleTensor(name + ".weight_scale", {out, groups}, weight.scales, weight.format.scale),
          {name + ".weight_shape", "I64", {2}, AsBytes(std::vector<int64_t>{out, in})}};
      if (weight.format.has_zeros) {
        tensors.push_back({name + ".weight_zero_point",
                           "I32",
                           {out / in_word, groups},
                           Packer{out, groups, bits}.AlongRows(zero)});
      }
      return tensors;
    }
    default: break;
  }
  GALE_CHECK(false && "not a container of packed integers");
  return {};
}

std::vector<OutputTensor> PackScaled(const std::string& name, const Matrix& weight,
                                     QuantizeContainer container, DType scale) {
  const Blocks block = BlocksOf(container, weight);
  const bool is_int8 = container == QuantizeContainer::kInt8;
  const bool is_named_fp8 =
      container == QuantizeContainer::kFp8Tensor || container == QuantizeContainer::kFp8Block;
  const DType stored = is_named_fp8 ? DType::kF32 : scale;
  std::string codes(static_cast<size_t>(weight.size()), '\0');
  std::vector<float> scales;
  for (int64_t row = 0; row < weight.rows(); row += block.rows) {
    const int64_t rows = std::min(block.rows, weight.rows() - row);
    for (int64_t column = 0; column < weight.cols(); column += block.columns) {
      const int64_t columns = std::min(block.columns, weight.cols() - column);
      const auto part = weight.block(row, column, rows, columns);
      const float magnitude = part.cwiseAbs().maxCoeff();
      float step = Rounded(magnitude / (is_int8 ? kMaxInt8 : kMaxF8E4M3), stored);
      if (!(step > 0)) step = 1;
      scales.push_back(step);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          const float steps = part(i, j) / step;
          const auto at = static_cast<size_t>((row + i) * weight.cols() + column + j);
          codes[at] =
              is_int8 ? static_cast<char>(std::clamp(std::nearbyint(steps), -kMaxInt8, kMaxInt8))
                      : static_cast<char>(ToF8E4M3(steps).bits);
        }
      }
    }
  }
  std::vector<int64_t> shape = {weight.rows(), 1};
  if (container == QuantizeContainer::kFp8Tensor) shape = {1};
  if (container == QuantizeContainer::kFp8Block) {
    shape = {(weight.rows() + kFp8Block - 1) / kFp8Block,
             (weight.cols() + kFp8Block - 1) / kFp8Block};
  }
  const char* suffix =
      container == QuantizeContainer::kFp8Block ? ".weight_scale_inv" : ".weight_scale";
  return {{name + ".weight", is_int8 ? "I8" : "F8_E4M3", {weight.rows(), weight.cols()}, codes},
          ScaleTensor(name + suffix, std::move(shape), scales, stored)};
}

}  // namespace gale
