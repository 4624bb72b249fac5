// The feed-forward parts of models whose layers have experts, all of them or some.
#pragma once

#include "models/decoder_layer.h"
#include "nn/fused_moe.h"

namespace gale {

/// DecoderTraits::feed_forward: FusedMoe in the layers that config.json calls sparse, one Mlp in
/// the others. `block`: what checkpoints call either, after "model.layers.3.".
MakeFeedForward SparseLayers(const HfConfig& config, const FusedMoeConfig& moe,
                             const char* block = "mlp");

}  // namespace gale
