// What a model is, without loading it: for `gale info`, memory plans and servers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gale/engine_config.h"
#include "gale/sampling_params.h"
#include "gale/status.h"

namespace gale {

/// What an embedding is made of: the states behind the last layer and norm.
enum class Pooling {
  kLast,  ///< that of the last token
  kMean,  ///< of all tokens
};

struct ModelInfo {
  std::string architecture;  ///< "Qwen3ForCausalLM"
  std::string dtype;         ///< "bf16"
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int window = 0;             ///< positions that layers with a window see; 0: no layer has one
  int num_window_layers = 0;  ///< of num_layers
  int intermediate_size = 0;
  int vocab_size = 0;
  int max_position = 0;
  bool tied_embeddings = false;
  int num_experts = 0;  ///< of a layer, of which a token goes through some; 0: none
  int experts_per_token = 0;
  uint64_t num_parameters = 0;       ///< tied weights counted once
  uint64_t expert_parameters = 0;    ///< of those, the weights of such experts
  uint64_t weight_bytes = 0;         ///< in the checkpoint's dtype
  uint64_t kv_bytes_per_token = 0;   ///< in layers that see the whole context
  uint64_t kv_window_bytes = 0;      ///< beside those, in layers with a window: once it is full
  Pooling pooling = Pooling::kLast;  ///< of embeddings, as 1_Pooling/config.json says
  std::vector<TokenId> eos_token_ids;
  SamplingParams default_sampling;  ///< generation_config.json's, or the defaults
};

/// The path that `model` (as in EngineConfig) stands for: of ORG/NAME and ORG/NAME@REVISION the
/// folder in the Hugging Face cache of this machine, of anything else `model` itself.
/// Errors: kNotFound, with the command that downloads what is missing; kDummy needs no weights.
Result<std::string> ResolveModel(const std::string& model, LoadFormat format = LoadFormat::kAuto);

/// Reads headers and configuration only. `model` is resolved first.
Result<ModelInfo> ReadModelInfo(const std::string& model, LoadFormat format = LoadFormat::kAuto);

/// Names accepted by LoadFormat::kDummy beside a folder or a config.json.
std::vector<std::string> ModelPresets();
/// Architectures that this build can run.
std::vector<std::string> SupportedArchitectures();

}  // namespace gale
