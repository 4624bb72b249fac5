#include "nn/rms_norm.h"

namespace gale {

RmsNorm::RmsNorm(ParamBuilder& builder, std::string name, int64_t hidden, float eps) : eps_(eps) {
  constexpr float kDummyStd = 0.02F;
  builder.Declare(
      {{{{std::move(name) + ".weight"}, hidden}}, {hidden}, builder.dtype(), 1, kDummyStd},
      &weight_);
}

void RmsNorm::Forward(ForwardContext& context, const TensorView& x, const TensorView& residual,
                      const TensorView& out) const {
  context.backend->RmsNorm(*context.stream, {x, weight_, residual, out, eps_});
}

}  // namespace gale
