#include "quantize/scheme.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace gale {

const std::vector<QuantizeScheme>& QuantizeSchemes() {
  using enum QuantizeMethod;
  using Container = QuantizeContainer;
  static const std::vector<QuantizeScheme> schemes = {
      {.name = "awq",
       .method = kAwq,
       .container = Container::kAwq,
       .has_zeros = true,
       .group = 128,
       .takes_group = true,
       .description = "4 bits, activation-aware scales and clipping"},
      {.name = "gptq",
       .method = kGptq,
       .container = Container::kGptq,
       .takes_zeros = true,
       .group = 128,
       .takes_group = true,
       .description = "4 bits, errors fed back column by column"},
      {.name = "gptq-int8",
       .method = kGptq,
       .container = Container::kGptq,
       .bits = 8,
       .takes_zeros = true,
       .group = 128,
       .takes_group = true,
       .description = "the same with 8 bits"},
      {.name = "int4",
       .container = Container::kPackedInt,
       .takes_zeros = true,
       .group = 128,
       .takes_group = true,
       .description = "4 bits, round to nearest"},
      {.name = "int8",
       .container = Container::kPackedInt,
       .bits = 8,
       .takes_zeros = true,
       .takes_group = true,
       .description = "8 bits, round to nearest; a scale for each output"},
      {.name = "int8-smooth",
       .method = kSmoothQuant,
       .container = Container::kInt8,
       .bits = 8,
       .description = "8 bits, activations too, outliers moved into the weights"},
      {.name = "fp8",
       .container = Container::kFp8,
       .bits = 8,
       .description = "e4m3, a scale for each output; activations too, for each token"},
      {.name = "fp8-tensor",
       .container = Container::kFp8Tensor,
       .bits = 8,
       .description = "e4m3, a scale for each tensor; activations too"},
      {.name = "fp8-block",
       .container = Container::kFp8Block,
       .bits = 8,
       .description = "e4m3 in blocks of 128 x 128; activations too, 128 at a time"},
      {.name = "q4_0",
       .container = Container::kGguf,
       .ggml = GgmlType::kQ4_0,
       .description = "a GGUF file: 4 bits, 32 to a scale"},
      {.name = "q4_k",
       .container = Container::kGguf,
       .ggml = GgmlType::kQ4K,
       .description = "a GGUF file: 4 bits, 256 to two scales, 32 to steps of those"},
      {.name = "q6_k",
       .container = Container::kGguf,
       .bits = 6,
       .ggml = GgmlType::kQ6K,
       .description = "a GGUF file: 6 bits, 256 to a scale, 16 to steps of it"},
      {.name = "q8_0",
       .container = Container::kGguf,
       .bits = 8,
       .ggml = GgmlType::kQ8_0,
       .description = "a GGUF file: 8 bits, 32 to a scale"},
  };
  return schemes;
}

Result<const QuantizeScheme*> FindQuantizeScheme(std::string_view name) {
  const auto found = std::ranges::find(QuantizeSchemes(), name, &QuantizeScheme::name);
  if (found != QuantizeSchemes().end()) return &*found;
  std::vector<std::string_view> names;
  for (const QuantizeScheme& scheme : QuantizeSchemes()) names.push_back(scheme.name);
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("scheme: expected one of {}; got {}", fmt::join(names, ", "), name));
}

StatisticsKind NeededStatistics(const QuantizeScheme& scheme) {
  switch (scheme.method) {
    case QuantizeMethod::kRoundToNearest: return StatisticsKind::kNone;
    case QuantizeMethod::kSmoothQuant: return StatisticsKind::kMagnitudes;
    case QuantizeMethod::kAwq:
    case QuantizeMethod::kGptq: return StatisticsKind::kGram;
  }
  return StatisticsKind::kNone;
}

}  // namespace gale
