#include "quant/integer_layout.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/input_groups.h"
#include "quant/unpack.h"

namespace gale {
namespace {

constexpr uint32_t kSigns = 0x80;  // of bytes: between -128..127 and 0..255

}  // namespace

std::string IntegerLayout::Fault(const LinearShape& shape) const {
  if (options_.is_packed && shape.in % InWord() != 0) {
    return fmt::format("expected a multiple of {} inputs, got {}", InWord(), shape.in);
  }
  if (options_.group == 0 || shape.in % options_.group == 0) return {};
  return fmt::format("expected inputs that groups of {} divide, got {}", options_.group, shape.in);
}

QuantFormat IntegerLayout::Format(const LinearShape&) const {
  QuantFormat format = {.code = BlockCode::kScaled};
  if (options_.bits == 8) {
    format.codes = options_.is_symmetric ? CodeType::kInt8 : CodeType::kUInt8;
  }
  format.block.in = options_.group;
  format.has_zeros = !options_.is_symmetric;
  format.has_permutation = options_.has_order && options_.group != 0;
  format.activation = options_.activation;
  return format;
}

std::vector<QuantParam> IntegerLayout::Params(const LinearShape& shape) const {
  const int64_t groups = Groups(shape.in);
  std::vector<QuantParam> params;
  if (options_.is_packed) {
    params.push_back({".weight_packed", {shape.out, shape.in / InWord()}, DType::kI32});
  } else {
    params.push_back({".weight", {shape.out, shape.in}, DType::kI8});
  }
  const std::vector<int64_t> scales =
      options_.is_per_tensor ? std::vector<int64_t>{1} : std::vector<int64_t>{shape.out, groups};
  params.push_back({".weight_scale", scales, DType::kF32});
  if (!options_.is_symmetric) {
    const bool are_packed = options_.is_packed && !options_.is_per_tensor;
    const std::vector<int64_t> packed = {(shape.out + InWord() - 1) / InWord(), groups};
    params.push_back({".weight_zero_point", are_packed ? packed : scales,
                      are_packed ? DType::kI32 : DType::kI8});
  }
  if (options_.has_order) params.push_back({".weight_g_idx", {shape.in}, DType::kI32});
  if (options_.activation == ActivationCode::kTensor) {
    params.push_back({".input_scale", {1}, DType::kF32});
  }
  return params;
}

std::vector<std::string> IntegerLayout::Unused() const {
  return {".weight_shape", ".weight_zero_point", ".input_zero_point", ".output_scale",
          ".output_zero_point"};
}

Status IntegerLayout::UnpackScales(const RawParam& raw, const LinearWeight& weight) const {
  if (!options_.is_per_tensor) {
    return CopyScales(raw, "weight_scale", Order::kSame, weight.scales);
  }
  const TensorView first = weight.scales.Rows(0, 1);
  GALE_RETURN_IF_ERROR(CopyScales(raw, "weight_scale", Order::kSame, first));
  std::fill_n(weight.scales.As<float>(), weight.out, *first.As<const float>());
  return {};
}

/// Bytes, or codes packed along the outputs.
void IntegerLayout::UnpackZeros(const TensorView& zeros, const LinearWeight& weight) const {
  const int64_t groups = weight.zeros.dim(1);
  auto* out = weight.zeros.As<uint8_t>();
  for (int64_t i = 0; i < weight.out * groups; ++i) {
    if (zeros.dtype == DType::kI8) {
      const int64_t at = options_.is_per_tensor ? 0 : i;
      out[i] = static_cast<uint8_t>(zeros.As<const uint8_t>()[at] ^ kSigns);
      continue;
    }
    const int64_t output = i / groups;
    const uint32_t word = zeros.As<const uint32_t>()[output / InWord() * groups + i % groups];
    const auto shift = static_cast<int>(output % InWord()) * options_.bits;
    out[i] = static_cast<uint8_t>(word >> shift & ((1U << options_.bits) - 1));
  }
}

void IntegerLayout::UnpackRow(const TensorView& codes, int64_t output,
                              const LinearWeight& weight) const {
  const int64_t bytes = weight.in * options_.bits / 8;
  const auto* in = static_cast<const uint8_t*>(codes.data) + output * bytes;
  auto* out = weight.data.As<uint8_t>() + output * bytes;
  const auto* order = weight.permutation ? weight.permutation.As<const int32_t>() : nullptr;
  if (options_.bits == 8) {
    // Packed bytes have the offset; signed ones stand for symmetric codes.
    const uint32_t flip = options_.is_packed == options_.is_symmetric ? kSigns : 0;
    for (int64_t i = 0; i < bytes; ++i) {
      out[i] = static_cast<uint8_t>(in[order == nullptr ? i : order[i]] ^ flip);
    }
  } else if (order == nullptr) {
    std::memcpy(out, in, static_cast<size_t>(bytes));
  } else {
    const auto code = [&](int64_t i) { return in[order[i] / 2] >> (order[i] % 2 * 4) & 15; };
    for (int64_t i = 0; i < bytes; ++i) {
      out[i] = static_cast<uint8_t>(code(2 * i) | code(2 * i + 1) << 4);
    }
  }
}

Status IntegerLayout::Unpack(std::span<const RawParam> raw, LinearWeight& weight,
                             ThreadPool& threads) const {
  size_t next = 1;
  GALE_RETURN_IF_ERROR(UnpackScales(raw[next++], weight));
  if (!options_.is_symmetric) UnpackZeros(raw[next++].view, weight);
  if (options_.has_order) {
    const TensorView& groups = raw[next++].view;
    const std::span<const int32_t> group_of(groups.As<const int32_t>(),
                                            static_cast<size_t>(weight.in));
    if (weight.permutation) {
      GALE_ASSIGN_OR_RETURN(const std::vector<int32_t> order,
                            OrderByGroup(group_of, options_.group, "weight_g_idx"));
      std::ranges::copy(order, weight.permutation.As<int32_t>());
    }
  }
  if (options_.activation == ActivationCode::kTensor) {
    const TensorView scale(&weight.activation_scale, DType::kF32, {1, 1});
    GALE_RETURN_IF_ERROR(CopyScales(raw[next], "input_scale", Order::kSame, scale));
  }
  threads.ParallelFor(weight.out,
                      [&](int64_t output, int) { UnpackRow(raw[0].view, output, weight); });
  return {};
}

}  // namespace gale
