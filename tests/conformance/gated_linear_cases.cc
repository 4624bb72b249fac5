// Linear layers whose outputs are gates and what they gate, in one call: silu(x Wg^T) * (x Wu^T).
//
// Bound: gate and up are linear layers' outputs, each off by its bound (linear_reference.h) and by
// one rounding to the activations' dtype, since a device may store them; with f(g, h) = silu(g) h,
// |df/dg| <= 1.1 |h| and |df/dh| = |silu(g)|. The exponential costs a few units, and those of its
// argument.
#include <cmath>

#include <fmt/format.h>

#include "conformance/op_case.h"

namespace gale::test {
namespace {

struct GatedShape {
  DType dtype;
  int64_t rows;
  int64_t in;
  int64_t intermediate;
  bool bias = false;
  Numerics numerics = Numerics::kFast;
};

/// A linear layer's output, exactly, and how far a device's may be off.
struct Bounded {
  double value = 0;
  double error = 0;
};

Bounded Output(const HostTensor& x, const HostTensor& weight, const HostTensor* bias, int64_t row,
               int64_t column, Mutation mutation) {
  const int64_t in = x.dim(1);
  const int64_t terms = in - (mutation == Mutation::kDropLastTerm ? 1 : 0);
  double sum = 0;
  double magnitude = 0;
  for (int64_t i = 0; i < terms; ++i) {
    const double product = x.at(row, i) * weight.at(column, i);
    sum += product;
    magnitude += std::abs(product);
  }
  if (bias != nullptr && mutation != Mutation::kSkipBias) {
    sum += bias->values[static_cast<size_t>(column)];
  }
  const double u = Roundoff(DType::kF32);
  const double error = (static_cast<double>(in) + 2) * u * magnitude + u * std::abs(sum);
  return {sum, error + Roundoff(x.dtype) * (std::abs(sum) + error)};
}

OpResult RunGated(Device& device, const GatedShape& shape, Mutation mutation) {
  std::mt19937_64 random(11);
  const int64_t outputs = 2 * shape.intermediate;
  const double deviation = 1 / std::sqrt(static_cast<double>(shape.in));
  const HostTensor x = RandomTensor(random, shape.dtype, {shape.rows, shape.in});
  const HostTensor weight = RandomTensor(random, shape.dtype, {outputs, shape.in}, deviation);
  const HostTensor bias = RandomTensor(random, shape.dtype, {outputs});
  const QuantFormat format{BlockCode::kNone, shape.dtype};
  const LinearKernel* kernel =
      device.backend().FindLinear({format, shape.in, outputs, shape.dtype, shape.numerics});
  GALE_CHECK(kernel != nullptr);
  Device host("cpu");
  const DeviceTensor host_weight = host.Upload(weight);
  const auto packed = kernel->Prepare({format, shape.in, outputs, host_weight.view()});
  GALE_CHECK(packed.has_value());

  const DeviceTensor device_x = device.Upload(x);
  const DeviceTensor device_bias = device.Upload(bias);
  const DeviceTensor gate_up = device.Upload(Zeros(shape.dtype, {shape.rows, outputs}));
  const DeviceTensor out = device.Upload(Zeros(shape.dtype, {shape.rows, shape.intermediate}), 8);
  const LinearArgs linear = {.x = device_x.view(),
                             .weight = &*packed,
                             .bias = shape.bias ? device_bias.view() : TensorView(),
                             .out = gate_up.view()};
  device.backend().GatedLinear(device.stream(), *kernel, linear, {gate_up.view(), out.view()});
  const HostTensor got = device.Download(out);

  const double u = Roundoff(DType::kF32);
  const int64_t row_step = shape.rows > 100 ? 60 : 1;  // exact sums take their time
  OpResult result;
  for (int64_t r = 0; r < shape.rows; r += row_step) {
    for (int64_t c = 0; c < shape.intermediate; ++c) {
      const HostTensor* added = shape.bias ? &bias : nullptr;
      Bounded gate = Output(x, weight, added, r, c, mutation);
      Bounded up = Output(x, weight, added, r, shape.intermediate + c, mutation);
      if (mutation == Mutation::kSwapHalves) std::swap(gate, up);
      const double silu = gate.value / (1 + std::exp(-gate.value));
      const double want = silu * up.value;
      const double error = 1.1 * gate.error * (std::abs(up.value) + up.error) +
                           std::abs(silu) * up.error +
                           (16 + 4 * std::abs(gate.value)) * u * std::abs(want);
      result.Add(got.at(r, c), want, error + Roundoff(shape.dtype) * (std::abs(want) + error));
    }
  }
  return result;
}

}  // namespace

std::vector<OpCase> GatedLinearCases() {
  constexpr DType f32 = DType::kF32;
  constexpr DType bf16 = DType::kBf16;
  const GatedShape shapes[] = {
      {f32, 5, 33, 24, true},
      {bf16, 0, 64, 40},
      {bf16, 3, 64, 40, true},
      {bf16, 40, 72, 51},
      {bf16, 200, 520, 136, true},
      {bf16, 129, 512, 200, false, Numerics::kBatchInvariant},
      // So many outputs that a GPU has tiles for all of it, and tiles in turn.
      {bf16, 250, 520, 8200},
      {bf16, 250, 512, 12600, true},
  };
  std::vector<OpCase> cases;
  for (const GatedShape& shape : shapes) {
    OpCase op{
        fmt::format("GatedLinear/{}_{}x{}_to_{}{}{}", DTypeName(shape.dtype), shape.rows, shape.in,
                    shape.intermediate, shape.bias ? "_bias" : "",
                    shape.numerics == Numerics::kFast ? "_fast" : ""),
        [shape](Device& device, Mutation mutation) { return RunGated(device, shape, mutation); },
        {}};
    if (shape.rows > 0) op.must_fail = {Mutation::kSwapHalves, Mutation::kDropLastTerm};
    if (shape.rows > 0 && shape.bias) op.must_fail.push_back(Mutation::kSkipBias);
    cases.push_back(std::move(op));
  }
  return cases;
}

}  // namespace gale::test
