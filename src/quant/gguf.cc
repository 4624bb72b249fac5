// Weights of GGUF files: blocks of ggml's quantized types as they lie in the file, or plain
// elements where a file has those. Files mix types from tensor to tensor.
#include "base/check.h"
#include "quant/quant_scheme.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace {

class GgufScheme : public QuantScheme {
 public:
  std::string_view name() const override { return "gguf"; }

  std::vector<QuantParam> Params(const LinearShape& shape) const override {
    return {{".weight", {shape.out, shape.in}, shape.dtype, /*may_be_blocks=*/true}};
  }

  Result<LinearWeight> Canonicalize(const LinearShape& shape,
                                    std::span<const RawParam> raw) const override {
    const RawParam& param = raw[0];
    if (param.blocks == GgmlType::kNone) {
      return LinearWeight{{BlockCode::kNone, shape.dtype}, shape.in, shape.out, param.view};
    }
    return LinearWeight{{BlockCode::kGgmlBlock, DType::kU8, param.blocks},
                        shape.in,
                        shape.out,
                        BlockRows(param.view, shape.in)};
  }
};

const GgufScheme scheme;
const bool registered = RegisterQuantScheme(&scheme);

}  // namespace
}  // namespace gale
