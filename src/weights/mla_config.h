// Latent attention (MLA, arXiv:2405.04434) as config.json describes it. Layer L2 of the compute
// column; part of HfConfig, used by DeepSeek's architectures.
#pragma once

#include "base/json.h"
#include "gale/status.h"

namespace gale {

struct MlaConfig {
  int kv_lora_rank = 0;  ///< width of what keys and values are made of; 0: no latent attention
  int q_lora_rank = 0;   ///< the same of queries; 0: they are made at once
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  bool rope_interleave = true;  ///< neighbouring elements are rotated as pairs

  int qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
};

/// kv_lora_rank stays 0 when the file has none.
/// Errors: kDataCorrupt naming the field; kUnsupported for biases.
Result<MlaConfig> ParseMlaConfig(const JsonObject& root);

}  // namespace gale
