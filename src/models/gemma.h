// What Gemma 2 and 3 have in common. Layer L3.
#pragma once

#include "models/decoder.h"
#include "tensor/dtype.h"

namespace gale {

/// Norms on both sides, their weights as differences from 1, scaled embeddings. `dtype`: of
/// activations.
DecoderTraits GemmaTraits(const HfConfig& config, DType dtype);

}  // namespace gale
