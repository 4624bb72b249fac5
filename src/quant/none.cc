// Plain weights: one tensor [out, in] of the model's own dtype.
#include "quant/quant_scheme.h"

namespace gale {
namespace {

class NoneScheme : public QuantScheme {
 public:
  std::string_view name() const override { return "none"; }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    return {{".weight", {shape.out, shape.in}, shape.dtype}};
  }

  Result<LinearWeight> Canonicalize(const LinearShape& shape,
                                    std::span<const RawParam> raw) const override {
    return LinearWeight{{BlockCode::kNone, shape.dtype}, shape.in, shape.out, raw[0].view};
  }
};

const NoneScheme scheme;
const bool registered = RegisterQuantScheme(&scheme);

}  // namespace
}  // namespace gale
