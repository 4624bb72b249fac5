// Any text as a quantization_config, its first byte choosing the method: refused, or layers of it
// have formats that memory can be taken for.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "quant/quant_scheme.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::vector<std::string> methods = gale::QuantSchemeNames();
  gale::HfConfig config;
  config.quant_method = methods[data[0] % methods.size()];
  config.quant.source = "fuzz";
  config.quant.json = R"({"quantization_config":)";
  config.quant.json.append(reinterpret_cast<const char*>(data) + 1, size - 1);
  config.quant.json += "}";
  const auto scheme = gale::MakeQuantScheme(config, nullptr);
  if (!scheme) return 0;
  constexpr gale::LinearShape kShape = {.in = 96, .out = 40, .dtype = gale::DType::kF32};
  for (const char* layer : {"model.layers.0.mlp.down_proj", "lm_head", "a.experts.down_proj"}) {
    const gale::LinearLayout* layout = (*scheme)->LayoutOf(layer);
    if (layout == nullptr || !layout->Fault(kShape).empty()) continue;
    const gale::QuantFormat format = layout->Format(kShape);
    GALE_CHECK_GE(format.block.in, 0);
    GALE_CHECK_GE(format.block.out, 0);
    GALE_CHECK_GT(gale::WeightBytesOf(format, kShape.in, kShape.out), 0U);
    for (const gale::QuantParam& param : layout->Params(kShape)) {
      for (const int64_t dim : param.shape) GALE_CHECK_GT(dim, 0);
    }
  }
  return 0;
}
