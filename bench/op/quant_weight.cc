#include "op/quant_weight.h"

#include <random>

namespace gale::bench {

std::vector<NamedQuantFormat> QuantFormats() {
  const auto format = [](CodeType codes, int64_t group, bool zeros, ActivationCode activation) {
    QuantFormat made{.code = BlockCode::kScaled, .data = DType::kU8};
    made.codes = codes;
    made.block = {1, group};
    made.has_zeros = zeros;
    made.activation = activation;
    return made;
  };
  return {{"uint4_128_zeros", format(CodeType::kUInt4, 128, true, ActivationCode::kNone)},
          {"uint4_32", format(CodeType::kUInt4, 32, false, ActivationCode::kNone)},
          {"int8_row", format(CodeType::kInt8, 0, false, ActivationCode::kNone)},
          {"f8_row", format(CodeType::kF8E4M3, 0, false, ActivationCode::kRow)}};
}

QuantWeight::QuantWeight(const QuantFormat& format, int64_t in, int64_t out) {
  std::mt19937_64 random(1);
  const int64_t row_bytes = in * CodeBits(format.codes) / 8;
  codes.resize(static_cast<size_t>(out * row_bytes));
  for (uint8_t& code : codes) {
    code = static_cast<uint8_t>(random());
    constexpr uint8_t kNan = 0x7F;
    if (format.codes == CodeType::kF8E4M3 && (code & kNan) == kNan) code = 0;
  }
  const int64_t groups = format.block.in == 0 ? 1 : in / format.block.in;
  scales.assign(static_cast<size_t>(out * groups), 1.0F / 1024);
  weight.format = format;
  weight.in = in;
  weight.out = out;
  weight.data = TensorView(codes.data(), DType::kU8, {out, row_bytes});
  weight.scales = TensorView(scales.data(), DType::kF32, {out, groups});
  if (!format.has_zeros) return;
  zeros.assign(scales.size(), 7);
  weight.zeros = TensorView(zeros.data(), DType::kU8, {out, groups});
}

double QuantWeight::Bytes() const {
  constexpr double kScaleBytes = 2;  // f16, as most are
  return static_cast<double>(codes.size() + zeros.size()) +
         kScaleBytes * static_cast<double>(scales.size());
}

}  // namespace gale::bench
