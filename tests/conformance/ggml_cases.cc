// Linear layers and look-ups on ggml's blocks against fp64 sums of the values that they stand for.
//
// Bound: that of linear_reference.h; a kernel that multiplies sums of a block by its scale rounds
// no more often than one that multiplies each element. Activations of bf16 may meet blocks rounded
// to 8 bits, 32 at a time: then the products are those of the rounded ones, as exactly.
#include <algorithm>
#include <random>

#include <fmt/format.h>

#include "conformance/linear_reference.h"
#include "tensor/ggml_block.h"

namespace gale::test {
namespace {

/// Rows of blocks, and the values in them.
struct BlockMatrix {
  std::vector<std::byte> bytes;
  HostTensor values;
  GgmlType type;

  TensorView View(void* data) const {
    TensorView view(data, DType::kU8, {values.dim(0), values.dim(1)});
    view.strides[0] = GgmlRowBytes(type, values.dim(1));
    return view;
  }
};

/// Bytes of a block's f16 numbers: the scale, and that of the minimums.
std::vector<size_t> HalfsOf(GgmlType type) {
  switch (type) {
    case GgmlType::kQ4K:
    case GgmlType::kQ5K: return {0, 2};
    case GgmlType::kQ6K: return {208};
    default: return {0};
  }
}

BlockMatrix RandomBlocks(std::mt19937_64& random, GgmlType type, int64_t rows, int64_t columns) {
  BlockMatrix matrix{{}, Zeros(DType::kF32, {rows, columns}), type};
  const int64_t block_elements = GgmlBlockElements(type);
  std::vector<float> elements(static_cast<size_t>(block_elements));
  for (int64_t first = 0; first < rows * columns; first += block_elements) {
    std::vector<std::byte> block(static_cast<size_t>(GgmlBlockBytes(type)));
    for (std::byte& byte : block) byte = static_cast<std::byte>(random());
    for (const size_t at : HalfsOf(type)) {
      const auto scale = static_cast<uint16_t>(0x2000 + random() % 0x1000 + (random() % 2 << 15));
      std::memcpy(&block[at], &scale, sizeof(scale));  // 2^-7 to 2^-3 of either sign
    }
    DequantizeBlock(type, block.data(), elements.data());
    std::copy(elements.begin(), elements.end(), matrix.values.values.begin() + first);
    matrix.bytes.insert(matrix.bytes.end(), block.begin(), block.end());
  }
  return matrix;
}

struct GgmlShape {
  GgmlType type;
  DType activation;
  DType out;
  int64_t rows;
  int64_t in;
  int64_t columns;
  bool bias = false;
  int64_t padding = 0;
  bool may_lack = false;  ///< a back end need not have a kernel
};

QuantFormat FormatOf(const GgmlShape& shape) {
  return {BlockCode::kGgmlBlock, DType::kU8, shape.type};
}

const LinearKernel* FindKernel(Device& device, const GgmlShape& shape) {
  return device.backend().FindLinear(
      {FormatOf(shape), shape.in, shape.columns, shape.activation, Numerics::kBatchInvariant});
}

/// Of a type that a back end may lack, which is then made into plain numbers.
OpResult Skipped() {
  OpResult result;
  result.skipped = "no kernel for these blocks";
  return result;
}

HostTensor RunKernel(Device& device, const GgmlShape& shape, BlockMatrix& weight,
                     const HostTensor& x, const HostTensor& bias) {
  const QuantFormat format = FormatOf(shape);
  const LinearKernel* kernel = FindKernel(device, shape);
  GALE_CHECK(kernel != nullptr);
  const auto packed =
      kernel->Prepare({format, shape.in, shape.columns, weight.View(weight.bytes.data())});
  GALE_CHECK(packed.has_value());
  const DeviceTensor device_x = device.Upload(x, shape.padding);
  const DeviceTensor device_bias = device.Upload(bias);
  const DeviceTensor out =
      device.Upload(Zeros(shape.out, {x.dim(0), shape.columns}), shape.padding);
  kernel->Run(device.stream(), {.x = device_x.view(),
                                .weight = &*packed,
                                .bias = shape.bias ? device_bias.view() : TensorView(),
                                .out = out.view()});
  return device.Download(out);
}

OpResult RunLinear(Device& device, const GgmlShape& shape, Mutation mutation) {
  if (shape.may_lack && FindKernel(device, shape) == nullptr) return Skipped();
  std::mt19937_64 random(static_cast<uint64_t>(shape.in * 1000 + shape.columns));
  BlockMatrix weight = RandomBlocks(random, shape.type, shape.columns, shape.in);
  const HostTensor x = RandomTensor(random, shape.activation, {shape.rows, shape.in});
  const HostTensor bias = RandomTensor(random, shape.activation, {shape.columns});
  const HostTensor got = RunKernel(device, shape, weight, x, bias);
  const auto compare = [&](const HostTensor& activations) {
    return CompareLinear(got, shape.out, activations, weight.values, shape.bias ? &bias : nullptr,
                         mutation);
  };
  OpResult result = compare(x);
  if (shape.activation != DType::kBf16 || IsWithinBounds(result)) return result;
  return compare(RoundActivations(x, CodeType::kInt8, kGgmlBlockElements));
}

/// A row alone, bit for bit what it is among others.
OpResult RunAlone(Device& device, const GgmlShape& shape, Mutation mutation) {
  if (shape.may_lack && FindKernel(device, shape) == nullptr) return Skipped();
  std::mt19937_64 random(7);
  BlockMatrix weight = RandomBlocks(random, shape.type, shape.columns, shape.in);
  HostTensor x = RandomTensor(random, shape.activation, {shape.rows, shape.in});
  const HostTensor bias = RandomTensor(random, shape.activation, {shape.columns});
  const HostTensor together = RunKernel(device, shape, weight, x, bias);
  if (mutation == Mutation::kOtherInput) {
    for (double& value : x.values) value = RoundTo(x.dtype, value * (1 + 4 * Roundoff(x.dtype)));
  }
  OpResult result;
  for (int64_t r = 0; r < shape.rows; ++r) {
    HostTensor row = Zeros(x.dtype, {1, shape.in});
    for (int64_t i = 0; i < shape.in; ++i) row.at(0, i) = x.at(r, i);
    const HostTensor alone = RunKernel(device, shape, weight, row, bias);
    for (int64_t c = 0; c < shape.columns; ++c) {
      result.Add(together.at(r, c), alone.at(0, c), 0);
    }
  }
  return result;
}

OpResult RunLookUp(Device& device, GgmlType type, DType dtype, Mutation mutation) {
  constexpr int64_t kVocab = 37;
  constexpr int64_t kHidden = 96;
  constexpr double kScale = 3;
  std::mt19937_64 random(11);
  const BlockMatrix table = RandomBlocks(random, type, kVocab, kHidden);
  Buffer memory = device.Allocate(table.bytes.size());
  device.backend().Copy(device.stream(), memory.data(), table.bytes.data(), table.bytes.size());
  const std::vector<double> ids = {36, 0, 5, 5, 17};
  const DeviceTensor tokens = device.Upload(Tensor(DType::kI32, {5}, ids));
  const DeviceTensor out = device.Upload(Zeros(dtype, {5, kHidden}));
  device.backend().Embedding(device.stream(), {.tokens = tokens.view(),
                                               .table = table.View(memory.data()),
                                               .out = out.view(),
                                               .scale = kScale,
                                               .blocks = type});
  const HostTensor got = device.Download(out);
  OpResult result;
  for (int64_t t = 0; t < 5; ++t) {
    const auto id = static_cast<int64_t>(ids[static_cast<size_t>(t)]);
    const int64_t row = mutation == Mutation::kWrongRow ? (id + 1) % kVocab : id;
    for (int64_t i = 0; i < kHidden; ++i) {
      const double value = kScale * table.values.at(row, i);
      result.Add(got.at(t, i), value, Roundoff(dtype) * std::abs(value));
    }
  }
  return result;
}

OpCase LinearCase(const GgmlShape& shape) {
  OpCase op{
      fmt::format("Ggml/{}_x_{}_out_{}_{}x{}_to_{}{}{}", GgmlTypeName(shape.type),
                  DTypeName(shape.activation), DTypeName(shape.out), shape.rows, shape.in,
                  shape.columns, shape.bias ? "_bias" : "", shape.padding > 0 ? "_strided" : ""),
      [shape](Device& device, Mutation mutation) { return RunLinear(device, shape, mutation); },
      {}};
  if (shape.rows > 0) op.must_fail.push_back(Mutation::kDropLastTerm);
  if (shape.rows > 0 && shape.bias) op.must_fail.push_back(Mutation::kSkipBias);
  return op;
}

OpCase AloneCase(const GgmlShape& shape) {
  return {
      fmt::format("Ggml/{}_row_alone_{}", GgmlTypeName(shape.type), DTypeName(shape.activation)),
      [shape](Device& device, Mutation mutation) { return RunAlone(device, shape, mutation); },
      {Mutation::kOtherInput}};
}

}  // namespace

std::vector<OpCase> GgmlCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  std::vector<OpCase> cases;
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0}) {
    const std::vector<GgmlShape> shapes = {
        {type, f32, f32, 0, 32, 16},
        {type, f32, f32, 1, 32, 1},
        {type, f32, f32, 1, 1024, 301, true},
        {type, bf16, f32, 2, 544, 53},
        {type, bf16, bf16, 5, 96, 40, true, 3},
        {type, f32, f32, 37, 288, 31, true, 5},
        {type, bf16, bf16, 300, 64, 10},  // more rows than one block
        {type, bf16, f32, 1, 1024, 301, true},
        {type, bf16, f32, 7, 544, 130},
        {type, bf16, bf16, 600, 1056, 65},
    };
    for (const GgmlShape& shape : shapes) cases.push_back(LinearCase(shape));
    for (const DType dtype : {f32, bf16}) {
      cases.push_back(AloneCase({type, dtype, f32, 21, 2080, 72}));
      cases.push_back({fmt::format("Ggml/{}_look_up_{}", GgmlTypeName(type), DTypeName(dtype)),
                       [type, dtype](Device& device, Mutation mutation) {
                         return RunLookUp(device, type, dtype, mutation);
                       },
                       {Mutation::kWrongRow}});
    }
  }
  for (const GgmlType type : {GgmlType::kQ4K, GgmlType::kQ5K, GgmlType::kQ6K}) {
    const std::vector<GgmlShape> shapes = {
        {type, bf16, f32, 1, 1024, 301, true},   {type, bf16, f32, 7, 512, 130},
        {type, bf16, bf16, 5, 256, 40, true, 3}, {type, bf16, bf16, 530, 768, 65},
        {type, bf16, f32, 21, 2048, 72},
    };
    for (GgmlShape shape : shapes) {
      shape.may_lack = true;
      cases.push_back(LinearCase(shape));
      if (shape.rows == 21) cases.push_back(AloneCase(shape));
    }
  }
  return cases;
}

}  // namespace gale::test
