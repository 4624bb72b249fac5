// What llama.cpp's converter makes of each architecture: its own names for tensors, and changes to
// some of them. Layer L2 of the compute column; used by GgufModel.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/gguf.h"
#include "gale/status.h"

namespace gale {

using NamePair = std::pair<std::string_view, std::string_view>;

struct GgufArchitecture {
  std::string_view name;            ///< general.architecture
  std::string_view hugging_face;    ///< of config.json's architectures
  bool has_experts = false;         ///< expert_count tells Mixtral from Llama, which share a name
  bool has_sigmoid_router = false;  ///< expert_gating_func tells DeepSeek-V3 from V2
  bool has_latent_attention = false;
  /// Names in a layer, GGUF's and Hugging Face's, beside the common ones, before which they are
  /// looked up; one with ".weight" or ".bias" stands for the whole name. "{}" stands for an
  /// expert's number: GGUF stacks all experts in one tensor.
  std::span<const NamePair> layer_names = {};
  bool has_interleaved_heads = false;     ///< of the rows of q and k
  float norm_offset = 0;                  ///< added to the weights of all norms
  bool has_window = false;                ///< attention.sliding_window may be over 0
  bool has_partial_rope = false;          ///< rope.dimension_count may be under the head's size
  bool renormalizes_experts = false;      ///< norm_topk_prob
  std::string_view bias = "attn_output";  ///< where config.json's attention_bias shows
  /// gpt-oss: YaRN's ramp ends between dimensions. No key tells it.
  bool has_exact_yarn = false;
  /// Gemma: how many layers the model has that scales scores by another number than its head's
  /// size, hidden over heads; no key tells it.
  int large_layers = 0;
};

/// Errors: kUnsupported, listing the known names.
Result<GgufArchitecture> FindGgufArchitecture(const Gguf& gguf);

/// "blk.7.attn_q.weight" becomes "model.layers.7.self_attn.q_proj.weight". Names that no model of
/// the architecture has stay, so that they are reported as the file spells them.
std::string HuggingFaceName(const GgufArchitecture& architecture, std::string_view name);

/// The other way, for models that differ from Llama in no tensor: null and empty for all others.
const GgufArchitecture* FindPlainArchitecture(std::string_view hugging_face);
std::string GgufName(std::string_view name);

}  // namespace gale
