// What follows attention in a decoder's layer: one network for all tokens (nn/mlp.h) or a mixture
// of experts (nn/fused_moe.h).
#pragma once

#include "nn/forward_context.h"

namespace gale {

class FeedForward {
 public:
  virtual ~FeedForward() = default;

  /// x, out [tokens, hidden]; out may alias x. Takes ScratchBytes of the context's scratch and
  /// gives them back.
  virtual void Forward(ForwardContext& context, const TensorView& x,
                       const TensorView& out) const = 0;
  virtual size_t ScratchBytes(int tokens) const = 0;
  /// Fills in this layer's weights, for a back end that fuses the whole decoder. False when they
  /// are not what it knows.
  virtual bool Describe(DecoderLayerWeights& weights) const = 0;
};

}  // namespace gale
