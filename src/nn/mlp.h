// The gated feed-forward layer down(activation(gate(x)) * up(x)) (arXiv:2002.05202).
#pragma once

#include <string>

#include "nn/feed_forward.h"
#include "nn/linear.h"

namespace gale {

struct MlpConfig {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  bool bias = false;
  bool fused_gate_up = false;  ///< the checkpoint has both in one tensor, gate_up_proj
  Activation activation = Activation::kSilu;
};

class Mlp final : public FeedForward {
 public:
  /// `name`: "model.layers.3.mlp".
  Mlp(ParamBuilder& builder, const QuantScheme& scheme, const MlpConfig& config,
      const std::string& name);

  void Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const override;
  size_t ScratchBytes(int tokens) const override;
  bool Describe(DecoderLayerWeights& weights) const override;

 private:
  MlpConfig config_;
  DType dtype_;
  Linear gate_up_;
  Linear down_;
};

}  // namespace gale
