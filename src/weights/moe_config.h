// The experts of a mixture as config.json describes them. Layer L2 of the compute column; part of
// HfConfig, used by the architectures that have experts.
#pragma once

#include <optional>
#include <vector>

#include "backend/op_args.h"
#include "base/json.h"
#include "gale/status.h"

namespace gale {

struct MoeConfig {
  int num_experts = 0;                 ///< 0: a dense model
  int top_k = 0;                       ///< experts of each token
  int intermediate_size = 0;           ///< of one expert
  int shared_intermediate_size = 0;    ///< of the experts that every token has, together; 0: none
  std::optional<bool> norm_topk_prob;  ///< unset: as the architecture has it
  std::optional<RouterScore> score;    ///< unset: as the architecture has it
  float scale = 1;                     ///< of the chosen experts' weights
  int num_groups = 1;                  ///< divides num_experts
  int top_groups = 1;
  float swiglu_alpha = 1.702F;  ///< gpt-oss
  float swiglu_limit = 7;       ///< gpt-oss
  /// gpt-oss: the files have matrices [out, in] for each expert's gates, ups and downs (GGUF), not
  /// all of a layer in one tensor.
  bool has_separate_experts = false;
  std::vector<bool> is_sparse;  ///< [layers]: has experts; the others have one network
};

/// Reads the keys of all families; num_experts stays 0 when none of them is there.
/// `intermediate_size` is an expert's too where the file does not tell them apart.
/// Errors: kDataCorrupt naming the field; kUnsupported for an unknown way to score or pick.
Result<MoeConfig> ParseMoeConfig(const JsonObject& root, int num_layers, int intermediate_size);

}  // namespace gale
