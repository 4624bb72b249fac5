// The quantization_config of each container, in the words of the packages that define them:
// AutoAWQ, AutoGPTQ, compressed-tensors, and transformers for "fp8".
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "quantize/packing.h"

namespace gale {
namespace {

std::string Names(const std::vector<std::string>& names) {
  if (names.empty()) return "[]";
  return fmt::format(R"(["{}"])", fmt::join(names, R"(", ")"));
}

std::string GroupOrAll(int64_t group) { return group == 0 ? "-1" : fmt::format("{}", group); }

/// What compressed-tensors says of weights or activations.
struct Codes {
  const char* type = "int";
  int bits = 8;
  bool is_symmetric = true;
  const char* strategy = "channel";
  int64_t group = 0;
  bool is_dynamic = false;
};

std::string CodesJson(const Codes& codes) {
  return fmt::format(
      R"({{"num_bits": {}, "type": "{}", "symmetric": {}, "strategy": "{}", "group_size": {}, )"
      R"("dynamic": {}}})",
      codes.bits, codes.type, codes.is_symmetric, codes.strategy,
      codes.group == 0 ? "null" : fmt::format("{}", codes.group), codes.is_dynamic);
}

std::string CompressedTensors(const char* format, const Codes& weights,
                              const std::string& activations,
                              const std::vector<std::string>& plain) {
  return fmt::format(R"({{
    "quant_method": "compressed-tensors",
    "format": "{}",
    "quantization_status": "compressed",
    "config_groups": {{
      "group_0": {{
        "targets": ["Linear"],
        "weights": {},
        "input_activations": {},
        "output_activations": null
      }}
    }},
    "ignore": {}
  }})",
                     format, CodesJson(weights), activations, Names(plain));
}

}  // namespace

std::string QuantizationConfigJson(const QuantizationConfig& config) {
  const IntegerFormat& format = config.format;
  switch (config.container) {
    case QuantizeContainer::kAwq:
      return fmt::format(R"({{
    "quant_method": "awq",
    "bits": {},
    "group_size": {},
    "zero_point": true,
    "version": "gemm",
    "modules_to_not_convert": {}
  }})",
                         format.bits, GroupOrAll(format.group), Names(config.plain));
    case QuantizeContainer::kGptq:
      return fmt::format(R"({{
    "quant_method": "gptq",
    "bits": {},
    "group_size": {},
    "sym": {},
    "desc_act": {},
    "damp_percent": {},
    "true_sequential": false,
    "static_groups": false,
    "checkpoint_format": "gptq",
    "lm_head": false
  }})",
                         format.bits, GroupOrAll(format.group), !format.has_zeros, config.act_order,
                         config.damping);
    case QuantizeContainer::kPackedInt:
      return CompressedTensors("pack-quantized",
                               {.bits = format.bits,
                                .is_symmetric = !format.has_zeros,
                                .strategy = format.group == 0 ? "channel" : "group",
                                .group = format.group},
                               "null", config.plain);
    case QuantizeContainer::kInt8:
      return CompressedTensors("int-quantized", {},
                               CodesJson({.strategy = "token", .is_dynamic = true}), config.plain);
    case QuantizeContainer::kFp8:
      return CompressedTensors(
          "float-quantized", {.type = "float"},
          CodesJson({.type = "float", .strategy = "token", .is_dynamic = true}), config.plain);
    case QuantizeContainer::kFp8Tensor:
      return fmt::format(R"({{
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "ignored_layers": {}
  }})",
                         Names(config.plain));
    case QuantizeContainer::kFp8Block:
      return fmt::format(R"({{
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
    "modules_to_not_convert": {}
  }})",
                         Names(config.plain));
    case QuantizeContainer::kGguf: break;
  }
  return {};
}

}  // namespace gale
