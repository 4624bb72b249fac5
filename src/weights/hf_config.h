// config.json of a Hugging Face checkpoint as a typed struct.
// Layer L2 of the compute column; read once, by models/ and the engine.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/op_args.h"
#include "gale/sampling_params.h"
#include "gale/status.h"
#include "tensor/dtype.h"
#include "weights/mla_config.h"
#include "weights/moe_config.h"
#include "weights/rope_config.h"

namespace gale {

/// A checkpoint's quantization_config as it stands there; quant/ reads it.
struct QuantConfig {
  std::string json = "{}";  ///< {"quantization_config": ...}
  std::string source;       ///< the file, for messages
};

/// A decoder-only transformer. Every field is validated: positive where it counts something,
/// num_heads a multiple of num_kv_heads, head_dim even.
struct HfConfig {
  std::string architecture;    ///< architectures[0], "Qwen3ForCausalLM"
  std::optional<DType> dtype;  ///< "dtype" or "torch_dtype"; unset when the file has neither
  int vocab_size = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;      ///< explicit, or hidden_size / num_heads
  int max_position = 0;  ///< with a YaRN or dynamic scaling: those it makes room for
  double rms_norm_eps = 1e-6;
  Activation activation = Activation::kSilu;  ///< of the feed-forward layers' gates
  int rotary_dim = 0;                         ///< leading elements of a head that are rotated
  RopeConfig rope;
  std::optional<RopeConfig> sliding_rope;  ///< of layers with a window, where theirs differs
  double query_pre_attn_scalar = 0;        ///< scores are divided by its root; mostly head_dim
  double attn_logit_softcap = 0;           ///< 0: none
  double final_logit_softcap = 0;          ///< 0: none
  int sliding_window = 0;  ///< positions that a layer with a window sees, its own included
  // Which layers have the window: this, or where it is empty the rule of the architecture.
  std::vector<bool> has_window;    ///< [layers] layer_types
  bool use_sliding_window = true;  ///< Qwen: whether any layer has it
  int max_window_layers = 0;       ///< Qwen: the first layer that has it
  int sliding_window_pattern = 0;  ///< Gemma: every so many-th layer has none
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< on q, k, v and o
  bool mlp_bias = false;        ///< on gate, up and down
  MoeConfig moe;
  MlaConfig mla;
  std::string quant_method = "none";  ///< quantization_config.quant_method
  QuantConfig quant;
  std::vector<TokenId> eos_token_ids;
};

/// Parses config.json's text. `source` names it in messages.
/// Errors: kDataCorrupt naming the field, what was expected and what was found; kUnsupported for
/// an architecture outside `known_architectures` (the message lists them), a rope type, activation
/// or window that Gale has no code for.
Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& source,
                               std::span<const std::string> known_architectures);

}  // namespace gale
