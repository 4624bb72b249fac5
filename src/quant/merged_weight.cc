#include "quant/merged_weight.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/host_limits.h"
#include "base/status_macros.h"

namespace gale {
namespace {

bool IsIdentity(const TensorView& permutation) {
  const std::span<const int32_t> inputs(permutation.As<const int32_t>(),
                                        static_cast<size_t>(permutation.dim(0)));
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] != static_cast<int32_t>(i)) return false;
  }
  return true;
}

/// Also the scales of a KV cache in 8 bits that stand beside attention's layers: here it has its
/// own.
void IgnoreUnused(ParamBuilder& builder, const std::string& layer, const LinearLayout& layout) {
  for (const std::string& suffix : layout.Unused()) builder.Ignore(layer + suffix);
  const std::string parent = layer.substr(0, layer.rfind('.'));
  for (const char* of_cache : {".k_scale", ".v_scale", ".q_scale", ".prob_scale"}) {
    builder.Ignore(parent + of_cache);
  }
}

}  // namespace

MergedWeight::MergedWeight(const QuantScheme& scheme, const LinearShape& shape,
                           std::vector<LinearPart> parts)
    : shape_(shape), parts_(std::move(parts)) {
  for (const LinearPart& part : parts_) layouts_.push_back(scheme.LayoutOf(part.name));
  is_quantized_ =
      std::ranges::any_of(layouts_, [](const auto* layout) { return layout != nullptr; });
  format_ = CommonFormat();
}

std::vector<QuantParam> MergedWeight::PartParams(size_t part) const {
  const LinearShape shape = PartShape(parts_[part]);
  if (layouts_[part] == nullptr) return {{".weight", {shape.out, shape.in}, shape.dtype}};
  return layouts_[part]->Params(shape);
}

QuantFormat MergedWeight::PartFormat(size_t part) const {
  if (layouts_[part] == nullptr) return {.data = shape_.dtype};
  return layouts_[part]->Format(PartShape(parts_[part]));
}

/// Parts are one weight if their formats are the same and all but the last fill their blocks.
/// Groups have inputs of their own, which one permutation cannot order.
QuantFormat MergedWeight::CommonFormat() const {
  const QuantFormat plain = {.data = shape_.dtype};
  const QuantFormat first = PartFormat(0);
  if (first.has_permutation && shape_.groups > 1) return plain;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (PartFormat(i) != first) return plain;
    const bool is_last = i + 1 == parts_.size();
    const int64_t block = first.block.out;
    if (first.code == BlockCode::kScaled && !is_last &&
        (block == 0 || parts_[i].out % block != 0)) {
      return plain;
    }
  }
  return first;
}

void MergedWeight::Declare(ParamBuilder& builder, BindParams bind) const {
  std::vector<ParamSpec> specs;
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (layouts_[i] != nullptr) {
      const std::string fault = layouts_[i]->Fault(PartShape(parts_[i]));
      if (!fault.empty()) builder.AddFault(fmt::format("{}: {}", parts_[i].name, fault));
      IgnoreUnused(builder, parts_[i].name, *layouts_[i]);
    }
    for (QuantParam& param : PartParams(i)) {
      ParamSpec spec = {
          {{{parts_[i].name + param.suffix}, param.shape[0]}}, param.shape, param.dtype};
      spec.use = WeightUse::kLinear;
      spec.on_host = true;
      spec.is_optional = param.is_optional;
      specs.push_back(std::move(spec));
    }
  }
  builder.Declare(std::move(specs), std::move(bind),
                  {{format_, shape_.in, shape_.out, shape_.groups}});
}

Status MergedWeight::UnpackPart(size_t part, std::span<const RawParam> raw, LinearWeight& weight,
                                ThreadPool& threads) const {
  if (layouts_[part] == nullptr) {
    std::memcpy(weight.data.data, raw[0].view.data, weight.data.Bytes());
    return {};
  }
  const Status status = layouts_[part]->Unpack(raw, weight, threads);
  if (status) return status;
  return MakeError(status.error().code,
                   fmt::format("{}: {}", parts_[part].name, status.error().message));
}

/// False when the parts' permutations differ.
Result<bool> MergedWeight::UnpackAll(std::span<const RawParam> raw, LinearWeight& whole,
                                     ThreadPool& threads) const {
  std::vector<int32_t> order;  // of the first part
  int64_t begin = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    LinearWeight rows = OutputsOf(whole, begin, begin + parts_[i].out);
    rows.activation_scale = 0;
    const size_t count = PartParams(i).size();
    GALE_RETURN_IF_ERROR(UnpackPart(i, raw.first(count), rows, threads));
    raw = raw.subspan(count);
    begin += parts_[i].out;
    whole.activation_scale = std::max(whole.activation_scale, rows.activation_scale);
    if (!whole.permutation) continue;
    const auto* inputs = whole.permutation.As<const int32_t>();
    if (i == 0) order.assign(inputs, inputs + whole.in);
    if (!std::equal(order.begin(), order.end(), inputs)) return false;
  }
  if (whole.permutation && IsIdentity(whole.permutation)) {
    whole.permutation = {};
    whole.format.has_permutation = false;
  }
  return true;
}

/// Part by part in its own format, and from there to plain numbers.
Result<CanonicalWeight> MergedWeight::BindPlain(BindContext& context, std::span<const RawParam> raw,
                                                ThreadPool& threads) const {
  GALE_ASSIGN_OR_RETURN(CanonicalWeight whole,
                        AllocateWeight(context, {.data = shape_.dtype}, shape_.in, shape_.out));
  int64_t begin = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const int64_t out = parts_[i].out;
    const size_t count = PartParams(i).size();
    GALE_ASSIGN_OR_RETURN(CanonicalWeight part,
                          AllocateWeight(context, PartFormat(i), shape_.in, out));
    GALE_RETURN_IF_ERROR(UnpackPart(i, raw.first(count), part.weight, threads));
    Dequantize(part.weight, whole.weight.data.Rows(begin, begin + out), threads);
    raw = raw.subspan(count);
    begin += out;
  }
  return whole;
}

Result<CanonicalWeight> MergedWeight::Bind(
    BindContext& context, const std::vector<RawParam>& params,
    const std::function<bool(const QuantFormat&)>& has_kernel) const {
  ThreadPool threads(AvailableCpus());
  if (format_.code == BlockCode::kNone || !has_kernel(format_)) {
    return BindPlain(context, params, threads);
  }
  GALE_ASSIGN_OR_RETURN(CanonicalWeight whole,
                        AllocateWeight(context, format_, shape_.in, shape_.out));
  GALE_ASSIGN_OR_RETURN(const bool is_one, UnpackAll(params, whole.weight, threads));
  if (is_one && has_kernel(whole.weight.format)) return whole;
  return BindPlain(context, params, threads);
}

}  // namespace gale
