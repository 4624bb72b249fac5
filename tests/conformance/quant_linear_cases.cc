// Linear layers on quantized weights, codes beside their scales, against fp64 sums of what
// DequantizeRow says they stand for. Cases that a back end has no kernel for are skipped.
//
// Bound: that of linear_reference.h. Where a format asks for rounded activations, or the kernel is
// one that rounds them to 8 bits by 32, the products may also be those of the rounded ones; and
// where sums need not be batch invariant, those of weights rounded to bf16.
#include <algorithm>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "conformance/linear_reference.h"
#include "quant/dequantize.h"

namespace gale::test {
namespace {

struct QuantShape {
  std::string name;
  QuantFormat format;
  int64_t rows = 1;
  int64_t in = 128;
  int64_t columns = 128;
  DType out = DType::kBf16;
  bool bias = false;
  int64_t padding = 0;
  Numerics numerics = Numerics::kFast;
};

/// A weight in host memory.
struct QuantWeight {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<uint8_t> zeros;
  std::vector<int32_t> permutation;
  LinearWeight weight;

  HostTensor Values() const {
    HostTensor values = Zeros(DType::kF32, {weight.out, weight.in});
    std::vector<float> row(static_cast<size_t>(weight.in));
    for (int64_t r = 0; r < weight.out; ++r) {
      DequantizeRow(weight, r, row);
      std::copy(row.begin(), row.end(), values.values.begin() + r * weight.in);
    }
    return values;
  }
};

/// Random codes; scales about 1/64, of f16's precision but for plain 8-bit codes.
QuantWeight RandomWeight(std::mt19937_64& random, const QuantShape& shape) {
  const QuantFormat& format = shape.format;
  const auto blocks_of = [](int64_t n, int64_t block) {
    return block == 0 ? 1 : (n + block - 1) / block;
  };
  QuantWeight made;
  LinearWeight& weight = made.weight;
  weight.format = format;
  weight.in = shape.in;
  weight.out = shape.columns;
  const int64_t row_bytes = shape.in * CodeBits(format.codes) / 8;
  made.codes.resize(static_cast<size_t>(shape.columns * row_bytes));
  for (uint8_t& code : made.codes) {
    code = static_cast<uint8_t>(random());
    constexpr uint8_t kNan = 0x7F;
    if (format.codes == CodeType::kF8E4M3 && (code & kNan) == kNan) code = 0;
  }
  weight.data = TensorView(made.codes.data(), DType::kU8, {shape.columns, row_bytes});
  const std::array dims = {blocks_of(shape.columns, format.block.out),
                           blocks_of(shape.in, format.block.in)};
  const bool is_short = CodeBits(format.codes) == 4 || format.block.in > 0;
  made.scales.resize(static_cast<size_t>(dims[0] * dims[1]));
  for (float& scale : made.scales) {
    const double value = static_cast<double>(512 + random() % 1024) / 65536;
    scale = static_cast<float>(is_short ? value : value / 3);
  }
  weight.scales = TensorView(made.scales.data(), DType::kF32, {dims[0], dims[1]});
  if (format.has_zeros) {
    made.zeros.resize(made.scales.size());
    const uint64_t codes = uint64_t{1} << CodeBits(format.codes);
    for (uint8_t& zero : made.zeros) zero = static_cast<uint8_t>(random() % codes);
    weight.zeros = TensorView(made.zeros.data(), DType::kU8, {dims[0], dims[1]});
  }
  if (format.has_permutation) {
    for (int64_t i = 0; i < shape.in; ++i) made.permutation.push_back(static_cast<int32_t>(i));
    std::shuffle(made.permutation.begin(), made.permutation.end(), random);
    weight.permutation = TensorView(made.permutation.data(), DType::kI32, {shape.in});
  }
  if (format.activation == ActivationCode::kTensor) weight.activation_scale = 1.0F / 64;
  return made;
}

const LinearKernel* FindKernel(Device& device, const QuantShape& shape) {
  return device.backend().FindLinear(
      {shape.format, shape.in, shape.columns, DType::kBf16, shape.numerics});
}

HostTensor RunKernel(Device& device, const LinearKernel& kernel, const QuantShape& shape,
                     const PackedLinear& packed, const HostTensor& x, const HostTensor& bias) {
  const DeviceTensor device_x = device.Upload(x, shape.padding);
  const DeviceTensor device_bias = device.Upload(bias);
  const DeviceTensor out =
      device.Upload(Zeros(shape.out, {x.dim(0), shape.columns}), shape.padding);
  kernel.Run(device.stream(), {.x = device_x.view(),
                               .weight = &packed,
                               .bias = shape.bias ? device_bias.view() : TensorView(),
                               .out = out.view()});
  return device.Download(out);
}

/// The rows as the format has them rounded, or by 32 to 8 bits.
HostTensor RoundedActivations(const QuantWeight& weight, const HostTensor& x) {
  const bool is_f8 = weight.weight.format.codes == CodeType::kF8E4M3;
  const CodeType type = is_f8 ? CodeType::kF8E4M3 : CodeType::kInt8;
  switch (weight.weight.format.activation) {
    case ActivationCode::kNone: return RoundActivations(x, CodeType::kInt8, 32);
    case ActivationCode::kTensor:
      return RoundActivations(x, type, 0, weight.weight.activation_scale);
    case ActivationCode::kRow: return RoundActivations(x, type, 0);
    case ActivationCode::kGroup: return RoundActivations(x, type, 128);
  }
  return x;
}

OpResult Skipped(std::string why) {
  OpResult result;
  result.skipped = std::move(why);
  return result;
}
OpResult NoKernel(const Device& device) {
  return Skipped(fmt::format("no kernel of {} for this format", device.name()));
}

OpResult RunQuantLinear(Device& device, const QuantShape& shape, Mutation mutation) {
  const LinearKernel* kernel = FindKernel(device, shape);
  if (kernel == nullptr) return NoKernel(device);
  std::mt19937_64 random(static_cast<uint64_t>(shape.in * 1000 + shape.columns));
  const QuantWeight weight = RandomWeight(random, shape);
  const HostTensor x = RandomTensor(random, DType::kBf16, {shape.rows, shape.in});
  const HostTensor bias = RandomTensor(random, DType::kBf16, {shape.columns});
  const auto packed = kernel->Prepare(weight.weight);
  GALE_CHECK(packed.has_value());
  const HostTensor got = RunKernel(device, *kernel, shape, *packed, x, bias);
  const HostTensor values = weight.Values();
  const auto compare = [&](const HostTensor& activations, const HostTensor& weights) {
    return CompareLinear(got, shape.out, activations, weights, shape.bias ? &bias : nullptr,
                         mutation);
  };
  OpResult result = compare(x, values);
  for (const HostTensor& rows :
       {RoundedActivations(weight, x), RoundActivations(x, CodeType::kInt8, 32)}) {
    if (!IsWithinBounds(result)) result = compare(rows, values);
  }
  if (shape.numerics != Numerics::kFast || IsWithinBounds(result)) return result;
  HostTensor rounded = values;
  for (double& value : rounded.values) value = RoundTo(DType::kBf16, value);
  return compare(x, rounded);
}

/// A row alone, bit for bit what it is among others.
OpResult RunAlone(Device& device, const QuantShape& shape, Mutation mutation) {
  const LinearKernel* kernel = FindKernel(device, shape);
  if (kernel == nullptr) return NoKernel(device);
  std::mt19937_64 random(7);
  const QuantWeight weight = RandomWeight(random, shape);
  HostTensor x = RandomTensor(random, DType::kBf16, {shape.rows, shape.in});
  const HostTensor bias = RandomTensor(random, DType::kBf16, {shape.columns});
  const auto packed = kernel->Prepare(weight.weight);
  GALE_CHECK(packed.has_value());
  const HostTensor together = RunKernel(device, *kernel, shape, *packed, x, bias);
  if (mutation == Mutation::kOtherInput) {
    for (double& value : x.values) value = RoundTo(x.dtype, value * (1 + 4 * Roundoff(x.dtype)));
  }
  OpResult result;
  for (const int64_t r : {int64_t{0}, shape.rows / 2, shape.rows - 1}) {
    HostTensor row = Zeros(x.dtype, {1, shape.in});
    for (int64_t i = 0; i < shape.in; ++i) row.at(0, i) = x.at(r, i);
    const HostTensor alone = RunKernel(device, *kernel, shape, *packed, row, bias);
    for (int64_t c = 0; c < shape.columns; ++c) result.Add(together.at(r, c), alone.at(0, c), 0);
  }
  return result;
}

struct NamedFormat {
  const char* name;
  QuantFormat format;
};

std::vector<NamedFormat> Formats() {
  const auto format = [](CodeType codes, ScaleBlock block, bool zeros = false,
                         ActivationCode activation = ActivationCode::kNone) {
    QuantFormat made{.code = BlockCode::kScaled, .data = DType::kU8};
    made.codes = codes;
    made.block = block;
    made.has_zeros = zeros;
    made.activation = activation;
    return made;
  };
  std::vector<NamedFormat> formats = {
      {"uint4_128_zeros", format(CodeType::kUInt4, {1, 128}, true)},
      {"uint4_32", format(CodeType::kUInt4, {1, 32})},
      {"uint4_64_zeros_permuted", format(CodeType::kUInt4, {1, 64}, true)},
      {"uint4_row_zeros", format(CodeType::kUInt4, {1, 0}, true)},
      {"uint8_128_zeros", format(CodeType::kUInt8, {1, 128}, true)},
      {"uint8_row_permuted", format(CodeType::kUInt8, {1, 0})},
      {"int8_32", format(CodeType::kInt8, {1, 32})},
      {"int8_row", format(CodeType::kInt8, {1, 0}, false, ActivationCode::kRow)},
      {"f8_tensor", format(CodeType::kF8E4M3, {0, 0}, false, ActivationCode::kTensor)},
      {"f8_row", format(CodeType::kF8E4M3, {1, 0}, false, ActivationCode::kRow)},
      {"f8_128x128", format(CodeType::kF8E4M3, {128, 128}, false, ActivationCode::kGroup)},
      {"nf4_64", format(CodeType::kNf4, {1, 64})},
  };
  formats[2].format.has_permutation = true;
  formats[5].format.has_permutation = true;
  return formats;
}

}  // namespace

std::vector<OpCase> QuantLinearCases() {
  std::vector<OpCase> cases;
  // So many rows that a device may unpack the weight first, or round them.
  const auto add_many_rows = [&](const NamedFormat& format, int64_t columns) {
    const QuantShape shape = {format.name, format.format, 8192, 160, columns};
    const auto run = [shape](Device& device, Mutation mutation) {
      if (device.backend().info().is_host_memory) return Skipped("one kernel for any rows");
      return RunQuantLinear(device, shape, mutation);
    };
    cases.push_back({fmt::format("QuantLinear/{}_of_many_rows", shape.name), run, {}});
  };
  for (const auto& [name, format] : Formats()) {
    const std::vector<QuantShape> shapes = {
        {name, format, 0, 128, 128},
        {name, format, 1, 256, 128, DType::kF32},
        {name, format, 5, 1024, 300, DType::kBf16, true},
        {name, format, 17, 608, 200, DType::kBf16, true, 8},
        {name, format, 70, 1056, 150, DType::kF32, true, 3},
        {name, format, 200, 416, 136},
        {name, format, 33, 640, 130, DType::kBf16, false, 0, Numerics::kBatchInvariant},
    };
    for (const QuantShape& shape : shapes) {
      OpCase op{fmt::format("QuantLinear/{}_out_{}_{}x{}_to_{}{}{}{}", name, DTypeName(shape.out),
                            shape.rows, shape.in, shape.columns, shape.bias ? "_bias" : "",
                            shape.padding > 0 ? "_strided" : "",
                            shape.numerics == Numerics::kFast ? "" : "_invariant"),
                [shape](Device& device, Mutation m) { return RunQuantLinear(device, shape, m); },
                {}};
      if (shape.rows > 0) op.must_fail.push_back(Mutation::kDropLastTerm);
      if (shape.rows > 0 && shape.bias) op.must_fail.push_back(Mutation::kSkipBias);
      cases.push_back(std::move(op));
    }
    if (std::string_view(name) == "uint4_128_zeros") add_many_rows({name, format}, 392);
    if (std::string_view(name) == "f8_row") add_many_rows({name, format}, 520);
    for (const int64_t rows : {int64_t{21}, int64_t{150}}) {
      const QuantShape shape = {
          name, format, rows, 1152, 272, DType::kF32, true, 0, Numerics::kBatchInvariant};
      cases.push_back({fmt::format("QuantLinear/{}_row_alone_of_{}", name, rows),
                       [shape](Device& device, Mutation m) { return RunAlone(device, shape, m); },
                       {Mutation::kOtherInput}});
    }
  }
  return cases;
}

}  // namespace gale::test
