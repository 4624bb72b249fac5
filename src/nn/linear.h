// Linear layers. Several projections of one input are merged into a single weight, so that the
// input is read once and the device is asked once.
#pragma once

#include <string>
#include <vector>

#include "nn/forward_context.h"
#include "quant/quant_scheme.h"
#include "weights/param_builder.h"

namespace gale {

/// One projection of the checkpoint; the layer's output is theirs side by side, in order.
struct LinearPart {
  std::string name;  ///< without ".weight"
  int64_t out = 0;
};

/// y = x * W^T (+ bias), W [out, in].
/// Memory: a merged weight whose parts follow one another in the file is used in place like a plain
/// one; otherwise the parts are copied together, once, before the device packs them.
class Linear {
 public:
  Linear(ParamBuilder& builder, const QuantScheme& scheme, int64_t in,
         std::vector<LinearPart> parts, bool bias);
  /// Declares nothing: whoever has the weight calls Bind.
  Linear(const ParamBuilder& builder, int64_t in, int64_t out)
      : shape_{in, out, builder.dtype()}, numerics_(builder.numerics()) {}
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;

  /// Packs the weight for the device. What it points into must live on if the kernel borrows it.
  Status Bind(BindContext& context, const LinearWeight& weight);
  /// x [rows, in], out [rows, out]; out may be f32 for logits.
  void Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const;

  const TensorView& weight() const { return weight_.data; }  ///< as packed, for fused operations
  const TensorView& bias() const { return bias_; }           ///< [out] or empty

 private:
  LinearShape shape_;
  Numerics numerics_;
  const LinearKernel* kernel_ = nullptr;
  PackedLinear weight_;
  TensorView bias_;
};

}  // namespace gale
