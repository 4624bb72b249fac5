#include "nn/stacked_experts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

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

}  // namespace

std::unique_ptr<Linear> DeclareStackedExperts(ParamBuilder& builder, const std::string& name,
                                              const StackedExpertsShape& shape) {
  const int64_t outputs = shape.experts * shape.out;
  auto linear = std::make_unique<Linear>(builder, shape.in, outputs, shape.experts);
  ParamSpec weight = {
      {{{name}, shape.experts}}, {shape.experts, shape.in, shape.out}, builder.dtype()};
  weight.dummy_std = 1 / std::sqrt(static_cast<float>(shape.in));
  weight.on_host = true;
  ParamSpec bias = {
      {{{name + "_bias"}, shape.experts}}, {shape.experts, shape.out}, builder.dtype()};
  bias.dummy_std = 1;  // as large as what it is added to
  bias.on_host = true;
  std::vector<ParamSpec> specs;
  specs.push_back(std::move(weight));
  specs.push_back(std::move(bias));
  builder.Declare(
      std::move(specs),
      [linear = linear.get(), shape](BindContext& context, std::vector<RawParam> params) -> Status {
        GALE_ASSIGN_OR_RETURN(RawParam weights, Reorder(context, std::move(params[0]), shape));
        StackedExpertsShape of_bias = shape;
        of_bias.in = 1;
        GALE_ASSIGN_OR_RETURN(RawParam biases, Reorder(context, std::move(params[1]), of_bias));
        biases.view = TensorView(biases.view.data, biases.view.dtype, {biases.view.dim(0)});
        GALE_ASSIGN_OR_RETURN(const TensorView bias_view, context.Place(std::move(biases)));
        return linear->BindOwned(context, std::move(weights), bias_view);
      });
  return linear;
}

}  // namespace gale
