#include "nn/linear.h"

#include <cmath>

#include <fmt/format.h>

#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "tensor/ggml_block.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

ParamSpec MakeSpec(const std::vector<LinearPart>& parts, const QuantParam& param,
                   const LinearShape& shape) {
  ParamSpec spec;
  spec.shape = param.shape;
  spec.dtype = param.dtype;
  spec.may_be_blocks = param.may_be_blocks;
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(shape.in));
  for (const LinearPart& part : parts) {
    spec.parts.push_back({{part.name + param.suffix}, param.shape[0] * part.out / shape.out});
  }
  return spec;
}

/// Blocks as f32 numbers, for a device without a kernel for them.
Result<RawParam> UnpackBlocks(BindContext& context, RawParam blocks, const LinearShape& shape) {
  GALE_RETURN_IF_ERROR(context.BringToHost(blocks));
  GALE_ASSIGN_OR_RETURN(RawParam param, context.AllocateHost(DType::kF32, {shape.out, shape.in}));
  ThreadPool threads(AvailableCpus());
  ConvertBlocks({static_cast<const std::byte*>(blocks.view.data), blocks.view.Bytes()},
                blocks.blocks, param.view, threads);
  return param;
}

std::string_view FormatName(const QuantFormat& format) {
  return format.code == BlockCode::kGgmlBlock ? GgmlTypeName(format.ggml) : DTypeName(format.data);
}

LinearWeight BlockWeight(const LinearShape& shape, GgmlType type, const TensorView& rows) {
  return {{BlockCode::kGgmlBlock, DType::kU8, type}, shape.in, shape.out, rows};
}

}  // namespace

Linear::Linear(ParamBuilder& builder, const QuantScheme& scheme, int64_t in,
               std::vector<LinearPart> parts, bool bias, int groups)
    : shape_{in, 0, builder.dtype()}, numerics_(builder.numerics()), groups_(groups) {
  for (const LinearPart& part : parts) shape_.out += part.out;
  const GgmlType quantize_as = scheme.QuantizedType(shape_, parts[0].name);
  std::vector<ParamSpec> specs;
  for (const QuantParam& param : scheme.Params(shape_)) {
    specs.push_back(MakeSpec(parts, param, shape_));
  }
  specs[0].use = WeightUse::kLinear;
  specs[0].quantize_as = quantize_as;
  specs[0].on_host |= quantize_as != GgmlType::kNone;
  builder.Declare(std::move(specs),
                  [this, &scheme, quantize_as](BindContext& context, std::vector<RawParam> params) {
                    return BindParams(context, scheme, quantize_as, std::move(params));
                  });
  if (!bias) return;
  ParamSpec spec = MakeSpec(parts, {".bias", {shape_.out}, shape_.dtype}, shape_);
  spec.dummy_std = 1;  // as large as what it is added to
  builder.Declare(std::move(spec), &bias_);
}

Status Linear::BindParams(BindContext& context, const QuantScheme& scheme, GgmlType quantize_as,
                          std::vector<RawParam> params) {
  GALE_ASSIGN_OR_RETURN(LinearWeight weight, scheme.Canonicalize(shape_, params));
  if (quantize_as != GgmlType::kNone && weight.format.code == BlockCode::kNone) {
    const LinearWeight blocks = BlockWeight(shape_, quantize_as, {});
    if (FindKernel(context, blocks) != nullptr) {
      GALE_ASSIGN_OR_RETURN(params[0], context.Quantize(std::move(params[0]), quantize_as));
      weight = BlockWeight(shape_, quantize_as, BlockRows(params[0].view, shape_.in));
    }
  }
  if (weight.format.code == BlockCode::kGgmlBlock && !FindKernel(context, weight)) {
    GALE_ASSIGN_OR_RETURN(params[0], UnpackBlocks(context, std::move(params[0]), shape_));
    weight = {{BlockCode::kNone, DType::kF32}, shape_.in, shape_.out, params[0].view};
  }
  GALE_RETURN_IF_ERROR(Bind(context, weight));
  for (RawParam& param : params) {
    if (Borrows(param.view)) context.Keep(std::move(param));
  }
  return {};
}

const LinearKernel* Linear::FindKernel(const BindContext& context,
                                       const LinearWeight& weight) const {
  return context.backend.FindLinear(
      {weight.format, shape_.in, shape_.out, shape_.dtype, numerics_, groups_ > 1});
}

/// Whether the packed weight lies in `memory`, which must then live on.
bool Linear::Borrows(const TensorView& memory) const {
  const auto* byte = static_cast<const char*>(weight_.data.data);
  const auto* begin = static_cast<const char*>(memory.data);
  return byte >= begin && byte < begin + memory.Bytes();
}

Status Linear::Bind(BindContext& context, const LinearWeight& weight, const TensorView& bias) {
  kernel_ = FindKernel(context, weight);
  if (kernel_ == nullptr) {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("device {} has no linear kernel for {}{} weights [{}, {}] with {} "
                    "activations",
                    context.backend.info().name, groups_ > 1 ? "experts' " : "",
                    FormatName(weight.format), shape_.out, shape_.in, DTypeName(shape_.dtype)));
  }
  if (bias) bias_ = bias;
  GALE_ASSIGN_OR_RETURN(weight_, kernel_->Prepare(weight));
  context.store.private_bytes += weight_.storage.bytes();
  return {};
}

Status Linear::BindOwned(BindContext& context, RawParam weight, const TensorView& bias) {
  const LinearWeight plain = {
      {BlockCode::kNone, weight.view.dtype}, shape_.in, shape_.out, weight.view};
  GALE_RETURN_IF_ERROR(Bind(context, plain, bias));
  if (Borrows(weight.view)) context.Keep(std::move(weight));
  return {};
}

void Linear::Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const {
  kernel_->Run(*context.stream, {x, &weight_, bias_, out});
}

void Linear::ForwardGated(ForwardContext& context, const TensorView& x,
                          const GatedActivationArgs& gated) const {
  context.backend->GatedLinear(*context.stream, *kernel_, {x, &weight_, bias_, gated.gate_up},
                               gated);
}

void Linear::Forward(ForwardContext& context, const LinearGroups& groups, const TensorView& x,
                     const TensorView& out) const {
  kernel_->RunGrouped(*context.stream, {.x = x,
                                        .weight = &weight_,
                                        .bias = bias_,
                                        .offsets = groups.offsets,
                                        .x_rows = groups.x_rows,
                                        .out_rows = groups.out_rows,
                                        .out = out});
}

void Linear::ForwardBatched(ForwardContext& context, const TensorView& x,
                            const TensorView& out) const {
  kernel_->RunBatched(*context.stream, {.x = x, .weight = &weight_, .out = out});
}

}  // namespace gale
