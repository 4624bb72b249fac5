// What DeepSeek-V3's layers share with the one that predicts the token after the next. Layer L3.
#pragma once

#include "models/decoder_layer.h"

namespace gale {

DecoderTraits DeepseekV3Traits(const HfConfig& config);

}  // namespace gale
