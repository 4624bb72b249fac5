#include "nn/rms_norm.h"

namespace gale {

RmsNorm::RmsNorm(ParamBuilder& builder, std::string name, int64_t hidden, float eps,
                 float weight_offset)
    : eps_(eps), weight_offset_(weight_offset) {
  constexpr float kDummyStd = 0.02F;
  builder.Declare({{{{std::move(name) + ".weight"}, hidden}},
                   {hidden},
                   builder.dtype(),
                   1 - weight_offset,
                   kDummyStd},
                  &weight_);
}

void RmsNorm::Forward(ForwardContext& context, const TensorView& x, const TensorView& residual,
                      const TensorView& out) const {
  context.backend->RmsNorm(*context.stream, {x, weight_, residual, out, eps_, weight_offset_});
}

}  // namespace gale
