// What stands in front of a decoder layer's projections, so that factors of their inputs can be
// taken into it: norms, and the projections whose outputs come through linearly.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "quantize/awq.h"
#include "weights/checkpoint.h"
#include "weights/hf_config.h"

namespace gale {

/// Input i of the projections is output `map[i]` of `producer`, times something that does not
/// depend on it.
struct Fold {
  std::string producer;  ///< a norm, or a projection; without ".weight"
  bool is_norm = false;
  int64_t first_row = 0;  ///< of a projection: output o is row first_row + o
  ProducerMap map;        ///< [in]
};

/// Of projections called `names`, which read the same `in` inputs, by the names that Hugging Face's
/// decoders give: input_layernorm, v_proj -> o_proj, up_proj -> down_proj and so on. None where the
/// checkpoint has no such thing of the right size.
std::optional<Fold> FindFold(std::span<const std::string> names, int64_t in, const HfConfig& config,
                             const Checkpoint& checkpoint);

}  // namespace gale
