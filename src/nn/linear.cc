#include "nn/linear.h"

#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "base/host_limits.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

/// The parts' tensors of one suffix, stacked.
ParamSpec MakeSpec(const std::vector<LinearPart>& parts, const char* suffix,
                   std::vector<int64_t> shape, DType dtype) {
  ParamSpec spec;
  spec.shape = std::move(shape);
  spec.dtype = dtype;
  for (const LinearPart& part : parts) spec.parts.push_back({{part.name + suffix}, part.out});
  return spec;
}

std::string FormatName(const QuantFormat& format) {
  switch (format.code) {
    case BlockCode::kNone: return std::string(DTypeName(format.data));
    case BlockCode::kGgmlBlock: return std::string(GgmlTypeName(format.ggml));
    case BlockCode::kScaled: break;
  }
  return fmt::format("{}-bit", CodeBits(format.codes));
}

}  // namespace

Linear::Linear(ParamBuilder& builder, const QuantScheme& scheme, int64_t in,
               std::vector<LinearPart> parts, bool bias, int groups)
    : shape_{in, 0, builder.dtype(), groups}, numerics_(builder.numerics()) {
  for (const LinearPart& part : parts) shape_.out += part.out;
  auto merged = std::make_shared<const MergedWeight>(scheme, shape_, parts);
  if (!merged->is_quantized()) {
    DeclarePlain(builder, scheme, parts);
  } else {
    merged->Declare(
        builder, [this, merged](BindContext& context, std::vector<RawParam> params) -> Status {
          GALE_ASSIGN_OR_RETURN(CanonicalWeight weight,
                                merged->Bind(context, params, [&](const QuantFormat& format) {
                                  return FindKernel(context, format) != nullptr;
                                }));
          return BindKept(context, weight.weight, std::move(weight.memory));
        });
  }
  if (!bias) return;
  ParamSpec spec = MakeSpec(parts, ".bias", {shape_.out}, shape_.dtype);
  spec.dummy_std = 1;  // as large as what it is added to
  builder.Declare(std::move(spec), &bias_);
}

void Linear::DeclarePlain(ParamBuilder& builder, const QuantScheme& scheme,
                          const std::vector<LinearPart>& parts) {
  ParamSpec spec = MakeSpec(parts, ".weight", {shape_.out, shape_.in}, shape_.dtype);
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(shape_.in));
  spec.may_be_blocks = true;
  spec.use = WeightUse::kLinear;
  spec.groups = shape_.groups;
  const QuantFormat made_into = scheme.MadeInto(shape_, parts[0].name);
  spec.made_into = made_into;
  spec.on_host = made_into.code != BlockCode::kNone;
  std::vector<ParamSpec> specs;
  specs.push_back(std::move(spec));
  builder.Declare(std::move(specs),
                  [this, made_into](BindContext& context, std::vector<RawParam> params) {
                    return BindPlain(context, made_into, std::move(params[0]));
                  });
}

Status Linear::BindPlain(BindContext& context, const QuantFormat& made_into, RawParam param) {
  LinearWeight weight = PlainOrBlocks(param, shape_.in);
  if (made_into.code == BlockCode::kNone || weight.format.code != BlockCode::kNone) {
    return BindKept(context, weight, std::move(param));
  }
  GALE_RETURN_IF_ERROR(context.BringToHost(param));
  return BindRounded(context, made_into, param.view);
}

Status Linear::BindRounded(BindContext& context, const QuantFormat& format,
                           const TensorView& plain) {
  GALE_ASSIGN_OR_RETURN(CanonicalWeight made, RoundToNearest(context, plain, format));
  if (FindKernel(context, format) == nullptr) {
    GALE_ASSIGN_OR_RETURN(CanonicalWeight rounded,
                          AllocateWeight(context, {.data = shape_.dtype}, shape_.in, shape_.out));
    ThreadPool threads(AvailableCpus());
    Dequantize(made.weight, rounded.weight.data, threads);
    made = std::move(rounded);
  }
  return BindKept(context, made.weight, std::move(made.memory));
}

Status Linear::BindKept(BindContext& context, const LinearWeight& weight, RawParam memory,
                        const TensorView& bias) {
  GALE_RETURN_IF_ERROR(Bind(context, weight, bias));
  if (Borrows(memory.view)) context.Keep(std::move(memory));
  return {};
}

const LinearKernel* Linear::FindKernel(const BindContext& context,
                                       const QuantFormat& format) const {
  return context.backend.FindLinear(
      {format, shape_.in, shape_.out, shape_.dtype, numerics_, shape_.groups > 1});
}

/// Whether the packed weight lies in `memory`, which must then live on.
bool Linear::Borrows(const TensorView& memory) const {
  const auto* byte = static_cast<const char*>(weight_.data.data);
  const auto* begin = static_cast<const char*>(memory.data);
  return byte >= begin && byte < begin + memory.Bytes();
}

Status Linear::Bind(BindContext& context, const LinearWeight& weight, const TensorView& bias) {
  kernel_ = FindKernel(context, weight.format);
  if (kernel_ == nullptr) {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("device {} has no linear kernel for {}{} weights [{}, {}] with {} "
                    "activations",
                    context.backend.info().name, shape_.groups > 1 ? "experts' " : "",
                    FormatName(weight.format), shape_.out, shape_.in, DTypeName(shape_.dtype)));
  }
  if (bias) bias_ = bias;
  GALE_ASSIGN_OR_RETURN(weight_, kernel_->Prepare(weight));
  context.store.private_bytes += weight_.storage.bytes();
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
