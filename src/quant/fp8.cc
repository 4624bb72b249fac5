// Weights in e4m3 (arXiv 2209.05433) beside scales: one for the layer, or one for each block of
// rows and columns, as DeepSeek-V3 (arXiv 2412.19437) and Qwen3 publish them.
#include <fmt/format.h>

#include "base/status_macros.h"
#include "quant/fp8_layout.h"
#include "quant/unpack.h"

namespace gale {
namespace {

class Fp8Scheme : public QuantScheme {
 public:
  Fp8Scheme(PlainLayers plain, const Fp8Options& options)
      : plain_(std::move(plain)), layout_(options) {}

  const LinearLayout* LayoutOf(std::string_view layer) const override {
    return plain_.Has(layer) ? nullptr : &layout_;
  }

 private:
  PlainLayers plain_;
  Fp8Layout layout_;
};

Result<std::unique_ptr<const QuantScheme>> MakeFp8(const QuantSource& source) {
  const JsonObject& config = source.config;
  Fp8Options options;
  if (const auto format = config.Find("fmt")) {
    GALE_RETURN_IF_ERROR(Choice(*format, {"e4m3", "float8_e4m3fn"}));
  }
  if (const auto size = config.Find("weight_block_size")) {
    options.scales = Fp8Scales::kBlock;
    GALE_ASSIGN_OR_RETURN(options.block, BlockSize(*size));
  }
  std::string_view activation = "dynamic";
  if (const auto value = config.Find("activation_scheme")) {
    GALE_ASSIGN_OR_RETURN(activation, Choice(*value, {"dynamic", "static"}));
    if (activation == "static" && options.scales == Fp8Scales::kBlock) {
      return tl::unexpected(NotSupported(*value, "\"dynamic\", as weights are in blocks"));
    }
  }
  options.activation = options.scales == Fp8Scales::kBlock ? ActivationCode::kGroup
                       : activation == "static"            ? ActivationCode::kTensor
                                                           : ActivationCode::kRow;
  const char* scales = options.scales == Fp8Scales::kBlock ? ".weight_scale_inv" : ".weight_scale";
  options.suffix = scales;
  GALE_ASSIGN_OR_RETURN(
      PlainLayers plain,
      PlainLayers::Read(source, {"modules_to_not_convert", "ignored_layers"}, scales));
  plain.AddHead();
  return std::make_unique<const Fp8Scheme>(std::move(plain), options);
}

const bool registered = RegisterQuantScheme("fp8", MakeFp8);

}  // namespace
}  // namespace gale
