// Root-mean-square layer norm (arXiv:1910.07467).
#pragma once

#include <string>

#include "nn/forward_context.h"
#include "weights/param_builder.h"

namespace gale {

class RmsNorm {
 public:
  /// `weight_offset`: 1 where the checkpoint stores how much the weight differs from 1, else 0.
  RmsNorm(ParamBuilder& builder, std::string name, int64_t hidden, float eps,
          float weight_offset = 0);
  RmsNorm(const RmsNorm&) = delete;
  RmsNorm& operator=(const RmsNorm&) = delete;

  /// out = norm(x), or, with a residual, residual += x and out = norm(residual). out may alias
  /// either.
  void Forward(ForwardContext& context, const TensorView& x, const TensorView& residual,
               const TensorView& out) const;
  const TensorView& weight() const { return weight_; }  ///< [hidden], for ops that fuse the norm
  float eps() const { return eps_; }

 private:
  TensorView weight_;
  float eps_;
  float weight_offset_;
};

}  // namespace gale
