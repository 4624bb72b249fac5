// The gated feed-forward layer down(silu(gate(x)) * up(x)) (arXiv:2002.05202).
#pragma once

#include <string>

#include "nn/forward_context.h"
#include "nn/linear.h"

namespace gale {

/// Memory for the layer's intermediate values; both are overwritten.
struct MlpIo {
  TensorView gate_up;  ///< [tokens, 2 * intermediate]
  TensorView product;  ///< [tokens, intermediate]
};

class Mlp {
 public:
  /// `name`: "model.layers.3.mlp".
  Mlp(ParamBuilder& builder, const QuantScheme& scheme, int64_t hidden, int64_t intermediate,
      bool bias, const std::string& name)
      : gate_up_(builder, scheme, hidden,
                 {{name + ".gate_proj", intermediate}, {name + ".up_proj", intermediate}}, bias),
        down_(builder, scheme, intermediate, {{name + ".down_proj", hidden}}, bias) {}

  /// In place on x [tokens, hidden].
  void Forward(ForwardContext& context, const MlpIo& io, const TensorView& x) const {
    gate_up_.Forward(context, x, io.gate_up);
    context.backend->GatedActivation(*context.stream, {io.gate_up, io.product});
    down_.Forward(context, io.product, x);
  }
  /// Fills in this layer's weights, for a back end that fuses the whole decoder.
  void Describe(DecoderLayerWeights& weights) const {
    weights.gate_up = gate_up_.weight();
    weights.down = down_.weight();
  }

 private:
  Linear gate_up_;
  Linear down_;
};

}  // namespace gale
