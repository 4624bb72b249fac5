#include "gale/model_info.h"

#include <algorithm>

#include "backend/kv_format.h"
#include "base/status_macros.h"
#include "models/model_registry.h"
#include "models/model_source.h"
#include "weights/checkpoint.h"
#include "weights/pooling_config.h"
#include "weights/presets.h"

namespace gale {
namespace {

uint64_t KvBytesPerPosition(const AttentionSpec& spec) {
  const int64_t parts = spec.kind == KvKind::kLatent ? 1 : 2;  // values are a part of the keys
  const int64_t rows = parts * spec.layers * spec.kv_heads;
  return static_cast<uint64_t>(KvBytes(spec.kv, rows, spec.head_dim));
}

/// Fills in what the model declares; tied weights are counted once. Quantized models count as what
/// they stand for.
Status CountDeclared(const HfConfig& config, DType dtype, ModelInfo& info) {
  GALE_ASSIGN_OR_RETURN(const ModelFactory factory, FindModel(config.architecture));
  ParamBuilder builder(dtype, Numerics::kBatchInvariant);
  const std::unique_ptr<Model> model = factory(config, PlainScheme(), builder);
  info.num_parameters = builder.NumParameters();
  for (const AttentionGroup& group : model->attention_groups()) {
    const uint64_t bytes = KvBytesPerPosition(group.spec);
    if (group.spec.kind == KvKind::kSlidingWindow) {
      info.window = group.spec.window;
      info.num_window_layers = group.spec.layers;
      info.kv_window_bytes += bytes * static_cast<uint64_t>(group.spec.window);
    } else {
      info.kv_bytes_per_token += bytes;
    }
  }
  return {};
}

/// Gates, ups and downs of all experts in all layers that have them.
uint64_t CountExpertWeights(const HfConfig& config) {
  const auto layers = std::ranges::count(config.moe.is_sparse, true);
  return static_cast<uint64_t>(layers) * config.moe.num_experts * 3 * config.hidden_size *
         config.moe.intermediate_size;
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
  for (const CheckpointTensor& entry : (*checkpoint)->tensors()) {
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
  info.num_experts = config.moe.num_experts;
  info.experts_per_token = config.moe.top_k;
  info.expert_parameters = CountExpertWeights(config);
  info.head_dim = config.head_dim;
  info.intermediate_size = config.intermediate_size;
  info.vocab_size = config.vocab_size;
  info.max_position = config.max_position;
  info.tied_embeddings = config.tie_word_embeddings;
  GALE_RETURN_IF_ERROR(CountDeclared(config, ResolveDType(ModelDType::kAuto, dtype), info));
  info.weight_bytes = stored ? stored->bytes : info.num_parameters * DTypeBytes(dtype);
  info.eos_token_ids = source.generation.eos_token_ids;
  if (!source.folder.empty()) {
    GALE_ASSIGN_OR_RETURN(info.pooling, ReadPooling(source.folder));
  }
  info.default_sampling = source.generation.sampling;
  return info;
}

std::vector<std::string> ModelPresets() { return PresetNames(); }

}  // namespace gale
