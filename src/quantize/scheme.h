// The schemes that gale quantize knows: how codes are found, and what holds them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gale/quantize.h"
#include "gale/status.h"
#include "quantize/input_statistics.h"
#include "tensor/quant_format.h"

namespace gale {

enum class QuantizeMethod : uint8_t { kRoundToNearest, kAwq, kGptq, kSmoothQuant };

enum class QuantizeContainer : uint8_t {
  kAwq,        ///< AutoAWQ's gemm layout
  kGptq,       ///< AutoGPTQ's, version 1
  kPackedInt,  ///< compressed-tensors' pack-quantized: whole numbers, activations as they are
  kInt8,       ///< compressed-tensors' int-quantized: activations in 8 bits as well
  kFp8,        ///< compressed-tensors' float-quantized: a scale for each output and each token
  kFp8Tensor,  ///< "fp8": a scale for each tensor
  kFp8Block,   ///< "fp8" in blocks of 128 x 128, as DeepSeek-V3
  kGguf,       ///< one file of ggml's blocks
};

struct QuantizeScheme {
  std::string_view name;
  QuantizeMethod method = QuantizeMethod::kRoundToNearest;
  QuantizeContainer container = QuantizeContainer::kPackedInt;
  int bits = 4;
  bool has_zeros = false;           ///< always
  bool takes_zeros = false;         ///< with QuantizeOptions::asymmetric
  GgmlType ggml = GgmlType::kNone;  ///< of kGguf
  int64_t group = 0;                ///< that of QuantizeOptions::group_size unset; 0: all inputs
  bool takes_group = false;
  std::string_view description;
};

const std::vector<QuantizeScheme>& QuantizeSchemes();
/// Errors: kInvalidArgument, listing the schemes.
Result<const QuantizeScheme*> FindQuantizeScheme(std::string_view name);

StatisticsKind NeededStatistics(const QuantizeScheme& scheme);

}  // namespace gale
