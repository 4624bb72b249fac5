// Rotary position embedding (arXiv:2104.09864): the angles; the rotation is fused into QkvRope.
#pragma once

#include <vector>

#include "tensor/tensor_view.h"
#include "weights/param_builder.h"
#include "weights/rope_config.h"

namespace gale {

/// Radians per position of each pair of dimensions, [rotary_dim / 2], scaling folded in.
/// Computed in f32 in transformers' order of operations, which is what models were trained with. A
/// table computed in double differs by 3e-7 of each frequency; on a random model with sharp
/// softmaxes that moved the logits of position 200 by 1.4e-4 of the largest.
std::vector<float> RotaryInvFreq(const RopeConfig& config, int rotary_dim);

/// One table for all layers of a kind.
class RotaryEmbedding {
 public:
  RotaryEmbedding(ParamBuilder& builder, const RopeConfig& config, int rotary_dim);
  RotaryEmbedding(const RotaryEmbedding&) = delete;
  RotaryEmbedding& operator=(const RotaryEmbedding&) = delete;

  const TensorView& inv_freq() const { return inv_freq_; }  ///< f32 [rotary_dim / 2], on the device
  float scale() const { return scale_; }                    ///< multiplies cosines and sines

 private:
  TensorView inv_freq_;
  float scale_;
};

}  // namespace gale
