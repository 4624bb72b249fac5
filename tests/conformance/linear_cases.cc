// Linear layers against fp64 sums, within linear_reference.h's bound.
#include <fmt/format.h>

#include "conformance/linear_reference.h"

namespace gale::test {
namespace {

struct LinearShape {
  DType weight;
  DType activation;
  DType out;
  int64_t rows;
  int64_t in;
  int64_t columns;
  bool bias = false;
  int64_t padding = 0;
  double deviation = 1;
  Numerics numerics = Numerics::kBatchInvariant;
};

OpResult RunLinear(Device& device, const LinearShape& shape, Mutation mutation) {
  std::mt19937_64 random(7);
  const HostTensor x =
      RandomTensor(random, shape.activation, {shape.rows, shape.in}, shape.deviation);
  const HostTensor weight = RandomTensor(random, shape.weight, {shape.columns, shape.in});
  const HostTensor bias = RandomTensor(random, shape.activation, {shape.columns}, shape.deviation);
  const QuantFormat format{BlockCode::kNone, shape.weight};
  const LinearKernel* kernel = device.backend().FindLinear(
      {format, shape.in, shape.columns, shape.activation, shape.numerics});
  GALE_CHECK(kernel != nullptr);
  // LinearWeight is host memory by contract.
  Device host("cpu");
  const DeviceTensor host_weight = host.Upload(weight);
  const auto packed = kernel->Prepare({format, shape.in, shape.columns, host_weight.view()});
  GALE_CHECK(packed.has_value());

  const DeviceTensor device_x = device.Upload(x, shape.padding);
  const DeviceTensor device_bias = device.Upload(bias);
  const DeviceTensor out =
      device.Upload(Zeros(shape.out, {shape.rows, shape.columns}), shape.padding);
  kernel->Run(device.stream(), {.x = device_x.view(),
                                .weight = &*packed,
                                .bias = shape.bias ? device_bias.view() : TensorView(),
                                .out = out.view()});
  const HostTensor got = device.Download(out);
  return CompareLinear(got, shape.out, x, weight, shape.bias ? &bias : nullptr, mutation);
}

}  // namespace

std::vector<OpCase> LinearCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  constexpr DType f16 = DType::kF16;
  std::vector<LinearShape> shapes = {
      {f32, f32, f32, 0, 16, 16},
      {f32, f32, f32, 1, 1, 1},
      {f32, f32, f32, 1, 1024, 300},
      {f32, f32, f32, 2, 77, 53, true},
      {f32, f32, f32, 3, 256, 41, false, 5},
      {f32, f32, f32, 17, 300, 25, true, 3},
      {f32, f32, f32, 300, 33, 10},  // more rows than one block
      {f32, f32, f32, 5, 512, 40, false, 0, 1e30},
      {bf16, f32, f32, 7, 130, 31, true},
      {f16, f32, f32, 13, 100, 30},
      {bf16, bf16, bf16, 1, 768, 100},
      {bf16, bf16, bf16, 33, 257, 70, true, 1},
      {bf16, bf16, f32, 4, 256, 500},  // logits
      {f32, bf16, bf16, 6, 64, 64, true},
      {f16, bf16, bf16, 3, 48, 20},
  };
  for (int64_t rows = 4; rows <= 12; ++rows) shapes.push_back({bf16, f32, f32, rows, 65, 29});
  // Tiles and their edges along rows, columns and k, where sums need not be batch invariant.
  const auto add_fast = [&](int64_t rows, int64_t in, int64_t columns, DType out = DType::kBf16,
                            bool bias = false, int64_t padding = 0) {
    shapes.push_back({bf16, bf16, out, rows, in, columns, bias, padding, 1, Numerics::kFast});
  };
  add_fast(0, 16, 16);
  for (const int64_t rows : {1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129}) {
    add_fast(rows, 520, 300, bf16, rows % 2 == 0);
  }
  add_fast(2, 8, 1, f32);
  add_fast(3, 77, 53, bf16, true);
  add_fast(5, 64, 17920);
  add_fast(3, 40, 35000, f32, true);
  add_fast(70, 200, 1000, f32, true, 8);
  add_fast(70, 104, 253, bf16, true, 8);
  add_fast(300, 1032, 70, bf16, false, 3);
  add_fast(260, 24, 12000);
  add_fast(2300, 40, 300, f32);
  add_fast(128, 520, 12000, bf16, true);
  add_fast(128, 512, 11000, f32, true, 8);
  std::vector<OpCase> cases;
  for (const LinearShape& shape : shapes) {
    OpCase op{
        fmt::format("Linear/weight_{}_x_{}_out_{}_{}x{}_to_{}{}{}{}{}", DTypeName(shape.weight),
                    DTypeName(shape.activation), DTypeName(shape.out), shape.rows, shape.in,
                    shape.columns, shape.bias ? "_bias" : "", shape.padding > 0 ? "_strided" : "",
                    shape.deviation == 1 ? "" : "_large",
                    shape.numerics == Numerics::kFast ? "_fast" : ""),
        [shape](Device& device, Mutation mutation) { return RunLinear(device, shape, mutation); },
        {}};
    if (shape.rows > 0) op.must_fail.push_back(Mutation::kDropLastTerm);
    if (shape.rows > 0 && shape.bias) op.must_fail.push_back(Mutation::kSkipBias);
    cases.push_back(std::move(op));
  }
  return cases;
}

}  // namespace gale::test
