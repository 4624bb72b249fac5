// Plain checkpoints whose linear layers become blocks of 8-bit or 4-bit numbers while they load.
// Chosen by EngineConfig::quantize, not by a checkpoint.
#include "quant/quant_scheme.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

class OnLoadScheme : public QuantScheme {
 public:
  OnLoadScheme(std::string_view name, GgmlType type) : name_(name), type_(type) {}

  std::string_view name() const override { return name_; }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    return {{".weight", {shape.out, shape.in}, shape.dtype}};
  }

  Result<LinearWeight> Canonicalize(const LinearShape& shape,
                                    std::span<const RawParam> raw) const override {
    return LinearWeight{{BlockCode::kNone, shape.dtype}, shape.in, shape.out, raw[0].view};
  }

  /// The head has 8 bits at least: its errors go straight into the logits.
  GgmlType QuantizedType(const LinearShape& shape, std::string_view layer) const override {
    if (shape.in % kGgmlBlockElements != 0) return GgmlType::kNone;
    return layer == kHeadName ? GgmlType::kQ8_0 : type_;
  }

 private:
  std::string_view name_;
  GgmlType type_;
};

const OnLoadScheme int8("int8-on-load", GgmlType::kQ8_0);
const OnLoadScheme int4("int4-on-load", GgmlType::kQ4_0);
const bool registered = RegisterQuantScheme(&int8) && RegisterQuantScheme(&int4);

}  // namespace
}  // namespace gale
