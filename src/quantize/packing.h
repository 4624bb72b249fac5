// Quantized weights as the tensors of published formats. Layer of quantize/.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "quantize/integer_weight.h"
#include "quantize/scheme.h"

namespace gale {

/// A tensor of a file to be written.
struct OutputTensor {
  std::string name;
  std::string dtype;  ///< safetensors' spelling, "F16"
  std::vector<int64_t> shape;
  std::string owned;                         ///< its bytes, or
  std::span<const std::byte> borrowed = {};  ///< somebody else's

  std::span<const std::byte> bytes() const {
    return owned.empty() ? borrowed : std::as_bytes(std::span(owned));
  }
};

/// The elements in `dtype` (f32, f16 or bf16), rounded to nearest even.
std::string ToBytes(std::span<const float> values, DType dtype);

/// The tensors of the layer called `name`, of kAwq, kGptq or kPackedInt.
/// kAwq needs outputs, kGptq and kPackedInt inputs, kGptq both, in multiples of 32 / bits.
std::vector<OutputTensor> PackIntegers(const std::string& name, const IntegerWeight& weight,
                                       QuantizeContainer container);
/// Those of kInt8, kFp8, kFp8Tensor and kFp8Block: each element's nearest code, scales so that the
/// largest is the last code. `scale`: what scales are stored as, but in "fp8", where they are f32.
std::vector<OutputTensor> PackScaled(const std::string& name, const Matrix& weight,
                                     QuantizeContainer container, DType scale);

/// quantization_config of config.json, as JSON. `plain`: linear layers that are not quantized.
struct QuantizationConfig {
  QuantizeContainer container;
  IntegerFormat format;
  bool act_order = false;
  double damping = 0;
  std::vector<std::string> plain;
};
std::string QuantizationConfigJson(const QuantizationConfig& config);

}  // namespace gale
