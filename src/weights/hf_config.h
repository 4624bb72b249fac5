// config.json and generation_config.json of a Hugging Face checkpoint as typed structs.
// Layer L2 of the compute column; read once, by models/ and the engine.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gale/sampling_params.h"
#include "gale/status.h"
#include "tensor/dtype.h"

namespace gale {

enum class RopeType { kDefault, kLlama3 };

/// Rotary embedding as the checkpoint was trained (arXiv:2104.09864).
struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  // kLlama3: wavelengths over original / low_freq_factor are slowed by `factor`, those under
  // original / high_freq_factor kept, those between blended.
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int original_max_position = 0;
  std::vector<float> divisors;  ///< [head_dim / 2] of the frequencies, in GGUF files; or empty
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
  int head_dim = 0;  ///< explicit, or hidden_size / num_heads
  int max_position = 0;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  ///< on q, k, v and o
  bool mlp_bias = false;        ///< on gate, up and down
  int num_experts = 0;          ///< 0 = a dense model
  int num_experts_per_token = 0;
  int moe_intermediate_size = 0;
  std::string quant_method = "none";  ///< quantization_config.quant_method
  std::vector<TokenId> eos_token_ids;
};

/// generation_config.json: what the model's authors advise.
struct GenerationConfig {
  SamplingParams sampling;             ///< fields the file leaves out keep SamplingParams' defaults
  std::vector<TokenId> eos_token_ids;  ///< empty when the file names none
};

/// Parses config.json's text. `source` names it in messages.
/// Errors: kDataCorrupt naming the field, what was expected and what was found; kUnsupported for
/// an architecture outside `known_architectures` (the message lists them), a rope type, activation
/// or window that Gale has no code for.
Result<HfConfig> ParseHfConfig(std::string_view json, const std::string& source,
                               std::span<const std::string> known_architectures);
/// Parses generation_config.json's text; ids are checked against `vocab_size`.
Result<GenerationConfig> ParseGenerationConfig(std::string_view json, const std::string& source,
                                               int vocab_size);

}  // namespace gale
