// The part of a decoder's layer in which tokens see each other: nn/attention.h, or
// nn/mla_attention.h where keys and values come from a shared latent vector.
#pragma once

#include "nn/forward_context.h"

namespace gale {

/// Where the step's tokens stand.
struct AttentionRows {
  TensorView positions;     ///< i32 [tokens]
  TensorView slot_mapping;  ///< i32 [tokens], of the layer's group
};

class SelfAttention {
 public:
  virtual ~SelfAttention() = default;

  /// Upper bound of what Forward takes of the scratch memory for so many rows.
  virtual size_t ScratchBytes(int tokens) const = 0;
  /// In place on x [tokens, hidden].
  virtual void Forward(ForwardContext& context, const AttentionRows& rows,
                       const TensorView& x) const = 0;
  virtual int group() const = 0;  ///< of layers that share a KV cache
  /// Fills in this layer's weights, for a back end that fuses the whole decoder; false when it has
  /// what such a back end does not know.
  virtual bool Describe(DecoderLayerWeights& weights) const = 0;
};

}  // namespace gale
