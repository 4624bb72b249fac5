// From a configuration to the parts of an engine: devices, weights, memory plan, tokenizer.
#include <algorithm>
#include <filesystem>

#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "engine/engine_parts.h"
#include "engine/memory_plan.h"
#include "models/load_model.h"
#include "runner/local_executor.h"
#include "runner/worker.h"

namespace gale {
namespace {

ModelDType ResolvedDType(DType dtype) {
  return dtype == DType::kBf16 ? ModelDType::kBf16 : ModelDType::kF32;
}

/// `config.numerics` is resolved for the device.
Result<std::unique_ptr<Worker>> LoadWorker(EngineConfig& config, const LoadProgress& progress) {
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend,
                        CreateBackend(config.device, {.threads = config.threads}));
  if (!config.numerics) {
    config.numerics = backend->info().name == "cpu" ? Numerics::kBatchInvariant : Numerics::kFast;
  }
  const LoadOptions options{.model = config.model,
                            .format = config.load_format,
                            .dtype = config.dtype,
                            .numerics = *config.numerics,
                            .seed = config.seed,
                            .max_model_len = config.max_model_len};
  GALE_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(options, *backend, progress));
  return Worker::Create(std::move(backend), std::move(loaded.model), config.block_tokens);
}

/// What a folder may have or lack; a preset or a config.json has none.
template <class T>
Status LoadOptional(Result<std::unique_ptr<T>> loaded, std::unique_ptr<T>& part) {
  if (!loaded && loaded.error().code != ErrorCode::kNotFound) {
    return tl::unexpected(loaded.error());
  }
  if (loaded) part = *std::move(loaded);
  return {};
}

}  // namespace

Result<EngineParts> LoadEngineParts(const EngineConfig& config, const LoadProgress& progress) {
  GALE_RETURN_IF_ERROR(config.Validate());
  EngineParts parts;
  parts.config = config;
  GALE_ASSIGN_OR_RETURN(const std::string path, ResolveModel(config.model, config.load_format));
  parts.config.model = path;
  GALE_ASSIGN_OR_RETURN(parts.info, ReadModelInfo(path, config.load_format));
  GALE_RETURN_IF_ERROR(LoadOptional(Tokenizer::FromFolder(path), parts.tokenizer));
  GALE_RETURN_IF_ERROR(LoadOptional(ChatTemplate::FromFolder(path), parts.chat_template));
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, LoadWorker(parts.config, progress));

  const Model& model = worker->model();
  StepLimits limits{.max_tokens = config.max_num_batched_tokens,
                    .max_seqs = config.max_num_seqs,
                    .max_model_len = parts.info.max_position,
                    .timeout_s = config.device_timeout_s};
  const DeviceInfo device = worker->backend().info();
  if (!device.is_host_memory) {
    // The head's weights are read again for every tile of rows; memory is not that scarce here.
    const size_t all_rows = static_cast<size_t>(config.max_num_seqs) *
                            static_cast<size_t>(model.vocab_size()) * sizeof(float);
    limits.logits_bytes = std::clamp(all_rows, limits.logits_bytes, size_t{512} << 20);
  }
  MemoryDemand demand;
  demand.free_bytes = worker->backend().info().free_bytes;
  demand.weights_mapped_bytes = model.mapped_bytes();
  demand.weights_private_bytes = model.private_bytes();
  demand.scratch_bytes = worker->ScratchBytes(limits);
  demand.kv = worker->kv_cache_spec();
  demand.model_max_len = parts.info.max_position;
  GALE_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(config, demand));
  limits.max_model_len = plan.max_model_len;
  GALE_RETURN_IF_ERROR(worker->Allocate(plan.num_blocks, limits));

  parts.config.device = worker->backend().info().name;
  parts.device = worker->backend().info().description;
  parts.config.dtype = ResolvedDType(model.dtype());
  parts.config.threads = config.threads > 0 ? config.threads : AvailableCpus();
  parts.config.max_model_len = plan.max_model_len;
  parts.config.kv_cache_bytes = plan.kv_bytes;
  parts.kv = demand.kv;
  parts.num_blocks = plan.num_blocks;
  parts.mapped_bytes = demand.weights_mapped_bytes;
  parts.private_bytes = demand.weights_private_bytes + plan.kv_bytes + demand.scratch_bytes;
  parts.executor = MakeLocalExecutor(std::move(worker));
  return parts;
}

Result<std::unique_ptr<LlmEngine>> LlmEngine::Create(const EngineConfig& config,
                                                     const LoadProgress& progress) {
  GALE_ASSIGN_OR_RETURN(EngineParts parts, LoadEngineParts(config, progress));
  return StartEngine(std::move(parts));
}

}  // namespace gale
