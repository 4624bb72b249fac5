#include "quant/fp8_layout.h"

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "quant/unpack.h"

namespace gale {

QuantFormat Fp8Layout::Format(const LinearShape&) const {
  QuantFormat format = {.code = BlockCode::kScaled, .codes = CodeType::kF8E4M3};
  if (options_.scales == Fp8Scales::kBlock) format.block = options_.block;
  format.activation = options_.activation;
  return format;
}

std::vector<QuantParam> Fp8Layout::Params(const LinearShape& shape) const {
  std::vector<int64_t> scales;
  switch (options_.scales) {
    case Fp8Scales::kTensor: scales = {1}; break;
    case Fp8Scales::kOutput: scales = {shape.out, 1}; break;
    case Fp8Scales::kBlock:
      scales = {(shape.out + options_.block.out - 1) / options_.block.out,
                (shape.in + options_.block.in - 1) / options_.block.in};
      break;
  }
  std::vector<QuantParam> params = {{".weight", {shape.out, shape.in}, DType::kF8E4M3},
                                    {options_.suffix, scales, DType::kF32}};
  if (options_.activation == ActivationCode::kTensor) {
    params.push_back({".input_scale", {1}, DType::kF32});
  }
  return params;
}

std::vector<std::string> Fp8Layout::Unused() const {
  return {".k_scale", ".v_scale", ".output_scale", ".weight_zero_point", ".input_zero_point"};
}

Status Fp8Layout::Unpack(std::span<const RawParam> raw, LinearWeight& weight, ThreadPool&) const {
  const std::string_view name = std::string_view(options_.suffix).substr(1);
  if (options_.scales == Fp8Scales::kTensor) {
    TensorView one = weight.scales.Rows(0, 1);
    GALE_RETURN_IF_ERROR(CopyScales(raw[1], name, Order::kSame, one));
    std::fill_n(weight.scales.As<float>(), weight.out, *one.As<const float>());
  } else {
    GALE_RETURN_IF_ERROR(CopyScales(raw[1], name, Order::kSame, weight.scales));
  }
  if (options_.activation == ActivationCode::kTensor) {
    const TensorView scale(&weight.activation_scale, DType::kF32, {1, 1});
    GALE_RETURN_IF_ERROR(CopyScales(raw[2], "input_scale", Order::kSame, scale));
  }
  std::memcpy(weight.data.data, raw[0].view.data, weight.data.Bytes());
  return {};
}

}  // namespace gale
