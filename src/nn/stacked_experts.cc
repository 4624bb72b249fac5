#include "nn/stacked_experts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"

namespace gale {
namespace {

/// Where output `i` of one expert goes.
int64_t OutputRow(const StackedExpertsShape& shape, int64_t i) {
  return shape.is_gate_up ? i % 2 * (shape.out / 2) + i / 2 : i;
}

/// [in, out] to [out, in] with the outputs in their new order, by tiles that stay in the cache.
template <class T>
void Transpose(const StackedExpertsShape& shape, const T* source, T* target) {
  constexpr int64_t kTile = 64;
  for (int64_t first_in = 0; first_in < shape.in; first_in += kTile) {
    const int64_t end_in = std::min(first_in + kTile, shape.in);
    for (int64_t first_out = 0; first_out < shape.out; first_out += kTile) {
      const int64_t end_out = std::min(first_out + kTile, shape.out);
      for (int64_t o = first_out; o < end_out; ++o) {
        T* row = target + OutputRow(shape, o) * shape.in;
        for (int64_t i = first_in; i < end_in; ++i) row[i] = source[i * shape.out + o];
      }
    }
  }
}

template <class T>
void TransposeAll(const StackedExpertsShape& shape, const void* source, void* target) {
  ThreadPool threads(AvailableCpus());
  threads.ParallelFor(shape.experts, [&](int64_t expert, int) {
    const int64_t offset = expert * shape.in * shape.out;
    Transpose(shape, static_cast<const T*>(source) + offset, static_cast<T*>(target) + offset);
  });
}

/// `param` [experts, in, out], or [experts, out] when `shape.in` is 1, as [experts * out, in].
Result<RawParam> Reorder(BindContext& context, RawParam param, const StackedExpertsShape& shape) {
  GALE_RETURN_IF_ERROR(context.BringToHost(param));
  GALE_ASSIGN_OR_RETURN(
      RawParam ordered,
      context.AllocateHost(param.view.dtype, {shape.experts * shape.out, shape.in}));
  if (DTypeBytes(param.view.dtype) == sizeof(float)) {
    TransposeAll<uint32_t>(shape, param.view.data, ordered.view.data);
  } else {
    GALE_CHECK_EQ(DTypeBytes(param.view.dtype), sizeof(uint16_t));
    TransposeAll<uint16_t>(shape, param.view.data, ordered.view.data);
  }
  return ordered;
}

/// A weight [experts * out, in] whose rows are whole bytes, with the outputs in their new order.
Result<CanonicalWeight> ReorderOutputs(BindContext& context, const LinearWeight& weight,
                                       const StackedExpertsShape& shape) {
  GALE_ASSIGN_OR_RETURN(CanonicalWeight ordered,
                        AllocateWeight(context, weight.format, weight.in, weight.out));
  const auto row_bytes = static_cast<int64_t>(WeightBytesOf(weight.format, weight.in, 1));
  const auto* from = static_cast<const std::byte*>(weight.data.data);
  auto* to = static_cast<std::byte*>(ordered.weight.data.data);
  for (int64_t row = 0; row < weight.out; ++row) {
    const int64_t expert = row / shape.out;
    const int64_t target = expert * shape.out + OutputRow(shape, row % shape.out);
    std::memcpy(to + target * row_bytes, from + row * row_bytes, static_cast<size_t>(row_bytes));
  }
  return ordered;
}

ParamSpec WeightSpec(const ParamBuilder& builder, const std::string& name,
                     const StackedExpertsShape& shape) {
  ParamSpec spec = {
      {{{name}, shape.experts}}, {shape.experts, shape.in, shape.out}, builder.dtype()};
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(shape.in));
  spec.on_host = true;
  return spec;
}

ParamSpec BiasSpec(const ParamBuilder& builder, const std::string& name,
                   const StackedExpertsShape& shape) {
  ParamSpec spec = {
      {{{name + "_bias"}, shape.experts}}, {shape.experts, shape.out}, builder.dtype()};
  spec.dummy_std = 1;  // as large as what it is added to
  spec.on_host = true;
  return spec;
}

Result<TensorView> PlaceBias(BindContext& context, RawParam param, StackedExpertsShape shape) {
  shape.in = 1;
  GALE_ASSIGN_OR_RETURN(RawParam ordered, Reorder(context, std::move(param), shape));
  ordered.view = TensorView(ordered.view.data, ordered.view.dtype, {ordered.view.dim(0)});
  return context.Place(std::move(ordered));
}

/// The quantized weight, and before it the bias.
void DeclareQuantized(ParamBuilder& builder, std::shared_ptr<const MergedWeight> merged,
                      const std::string& name, const StackedExpertsShape& shape, Linear* linear) {
  const auto bias = std::make_shared<TensorView>();
  std::vector<ParamSpec> specs;
  specs.push_back(BiasSpec(builder, name, shape));
  builder.Declare(std::move(specs),
                  [=](BindContext& context, std::vector<RawParam> params) -> Status {
                    GALE_ASSIGN_OR_RETURN(*bias, PlaceBias(context, std::move(params[0]), shape));
                    return {};
                  });
  merged->Declare(builder, [=](BindContext& context, std::vector<RawParam> params) -> Status {
    const auto has_kernel = [&](const QuantFormat& format) {
      return linear->HasKernel(context, format);
    };
    GALE_ASSIGN_OR_RETURN(const CanonicalWeight weight, merged->Bind(context, params, has_kernel));
    GALE_ASSIGN_OR_RETURN(CanonicalWeight ordered, ReorderOutputs(context, weight.weight, shape));
    return linear->BindKept(context, ordered.weight, std::move(ordered.memory), *bias);
  });
}

}  // namespace

std::unique_ptr<Linear> DeclareStackedExperts(ParamBuilder& builder, const QuantScheme& scheme,
                                              const std::string& name,
                                              const StackedExpertsShape& shape) {
  const int64_t outputs = shape.experts * shape.out;
  auto linear = std::make_unique<Linear>(builder, shape.in, outputs, shape.experts);
  auto merged = std::make_shared<const MergedWeight>(
      scheme, LinearShape{shape.in, outputs, builder.dtype(), shape.experts},
      std::vector<LinearPart>{{name, outputs}});
  if (merged->is_quantized()) {
    DeclareQuantized(builder, std::move(merged), name, shape, linear.get());
    return linear;
  }
  std::vector<ParamSpec> specs;
  specs.push_back(WeightSpec(builder, name, shape));
  specs.push_back(BiasSpec(builder, name, shape));
  builder.Declare(
      std::move(specs),
      [linear = linear.get(), shape](BindContext& context, std::vector<RawParam> params) -> Status {
        GALE_ASSIGN_OR_RETURN(RawParam weights, Reorder(context, std::move(params[0]), shape));
        GALE_ASSIGN_OR_RETURN(const TensorView bias,
                              PlaceBias(context, std::move(params[1]), shape));
        const LinearWeight plain = PlainOrBlocks(weights, shape.in);
        return linear->BindKept(context, plain, std::move(weights), bias);
      });
  return linear;
}

}  // namespace gale
