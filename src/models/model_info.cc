#include "gale/model_info.h"

#include "base/status_macros.h"
#include "models/model_source.h"
#include "weights/checkpoint.h"
#include "weights/presets.h"

namespace gale {
namespace {

/// Parameters of the decoder family, from the shapes alone; tied weights counted once.
uint64_t CountParameters(const HfConfig& config) {
  const bool is_qwen2 = config.architecture == "Qwen2ForCausalLM";
  const bool has_qk_norm = config.architecture.starts_with("Qwen3");
  const uint64_t hidden = config.hidden_size;
  const uint64_t q = uint64_t(config.num_heads) * config.head_dim;
  const uint64_t kv = uint64_t(config.num_kv_heads) * config.head_dim;
  const uint64_t intermediate = config.intermediate_size;

  uint64_t attention = hidden * (q + 2 * kv) + q * hidden;
  if (config.attention_bias || is_qwen2) attention += q + 2 * kv;
  if (config.attention_bias) attention += hidden;
  if (has_qk_norm) attention += 2 * uint64_t(config.head_dim);

  uint64_t mlp = 3 * hidden * intermediate;
  if (config.mlp_bias) mlp += 2 * intermediate + hidden;
  if (config.num_experts > 0) {
    const uint64_t expert = 3 * hidden * config.moe_intermediate_size;
    mlp = config.num_experts * (expert + hidden);  // hidden: the expert's row of the router
  }
  const uint64_t tables =
      (config.tie_word_embeddings ? 1 : 2) * uint64_t(config.vocab_size) * hidden;
  return tables + config.num_layers * (attention + mlp + 2 * hidden) + hidden;
}

/// Bytes of all tensors in the folder's files, and their first dtype.
struct StoredWeights {
  uint64_t bytes = 0;
  std::optional<DType> dtype;
};

Result<std::optional<StoredWeights>> ReadStoredWeights(const std::string& folder) {
  const auto checkpoint = Checkpoint::Open(folder);
  if (!checkpoint) {
    if (checkpoint.error().code == ErrorCode::kNotFound) return std::optional<StoredWeights>();
    return tl::unexpected(checkpoint.error());
  }
  StoredWeights stored;
  for (const SafetensorsEntry& entry : (*checkpoint)->tensors()) {
    stored.bytes += entry.data.size();
    if (!stored.dtype) stored.dtype = entry.dtype;
  }
  return stored;
}

}  // namespace

Result<ModelInfo> ReadModelInfo(const std::string& model, LoadFormat format) {
  GALE_ASSIGN_OR_RETURN(const std::string path, ResolveModel(model, format));
  GALE_ASSIGN_OR_RETURN(const ModelSource source, ReadModelSource(path));
  const HfConfig& config = source.config;
  std::optional<StoredWeights> stored;
  if (format == LoadFormat::kAuto && !source.folder.empty()) {
    GALE_ASSIGN_OR_RETURN(stored, ReadStoredWeights(source.folder));
  }
  DType dtype = config.dtype.value_or(DType::kBf16);
  if (!config.dtype && stored && stored->dtype) dtype = *stored->dtype;

  ModelInfo info;
  info.architecture = config.architecture;
  info.dtype = DTypeName(dtype);
  info.num_layers = config.num_layers;
  info.hidden_size = config.hidden_size;
  info.num_heads = config.num_heads;
  info.num_kv_heads = config.num_kv_heads;
  info.head_dim = config.head_dim;
  info.intermediate_size = config.intermediate_size;
  info.vocab_size = config.vocab_size;
  info.max_position = config.max_position;
  info.tied_embeddings = config.tie_word_embeddings;
  info.num_parameters = CountParameters(config);
  info.weight_bytes = stored ? stored->bytes : info.num_parameters * DTypeBytes(dtype);
  info.kv_bytes_per_token = 2 * uint64_t(config.num_layers) * config.num_kv_heads *
                            config.head_dim * DTypeBytes(ResolveDType(ModelDType::kAuto, dtype));
  info.eos_token_ids = source.generation.eos_token_ids;
  info.default_sampling = source.generation.sampling;
  return info;
}

std::vector<std::string> ModelPresets() { return PresetNames(); }

}  // namespace gale
