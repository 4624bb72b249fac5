// From a configuration to the parts of an engine: devices, weights, memory plan, tokenizer.
#include <algorithm>
#include <filesystem>

#include "backend/kv_format.h"
#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "engine/engine_parts.h"
#include "engine/load_proposer.h"
#include "engine/memory_plan.h"
#include "models/load_model.h"
#include "runner/local_executor.h"
#include "runner/worker.h"

namespace gale {
namespace {

/// Token budgets of a step where none is asked for. A GPU's products need thousands of rows to come
/// near its peak (docs/performance.md); the CPU's do not, and its steps are long enough.
constexpr int kCpuStepTokens = 512;
constexpr int kGpuStepTokens = 8192;
constexpr size_t kScratchShareOfFree = 8;

ModelDType ResolvedDType(DType dtype) {
  return dtype == DType::kBf16 ? ModelDType::kBf16 : ModelDType::kF32;
}

StepLimits MakeLimits(const EngineConfig& config, const Model& model, const DeviceInfo& device,
                      int max_model_len) {
  StepLimits limits{.max_tokens = config.max_num_batched_tokens,
                    .max_seqs = config.max_num_seqs,
                    .max_model_len = max_model_len,
                    .max_draft_tokens = config.speculative.max_tokens,
                    .timeout_s = config.device_timeout_s};
  if (!device.is_host_memory) {
    // The head's weights are read again for every tile of rows; memory is not that scarce here.
    const size_t all_rows = static_cast<size_t>(config.max_num_seqs) *
                            static_cast<size_t>(model.vocab_size()) * sizeof(float);
    limits.logits_bytes = std::clamp(all_rows, limits.logits_bytes, size_t{512} << 20);
  }
  return limits;
}

/// The pool's null block included; none when not one block fits.
int NumHostBlocks(size_t bytes, size_t block_bytes) {
  const size_t blocks = block_bytes == 0 ? 0 : bytes / block_bytes;
  return blocks == 0 ? 0 : static_cast<int>(std::min<size_t>(blocks, 1 << 30)) + 1;
}

/// Decides where the memory of a model goes whose weights are not read yet, and with it the token
/// budget that `config` leaves open.
class MemoryPlanner {
 public:
  /// `proposer`, whose weights are loaded, may be null.
  MemoryPlanner(EngineConfig& config, Backend& backend, const DraftProposer* proposer,
                int model_max_len)
      : config_(config), backend_(backend), proposer_(proposer) {
    demand_.model_max_len = model_max_len;
  }

  Status Decide(const Model& model, const WeightBytes& weights) {
    const DeviceInfo device = backend_.info();
    if (weights.private_bytes > device.free_bytes) return {};  // the weight loader says it better
    const std::vector<AttentionGroup> attention = AllAttentionGroups(model, proposer_);
    GALE_ASSIGN_OR_RETURN(
        const auto groups,
        CreateKvGroups(backend_, attention, config_.block_tokens, config_.kv_cache_dtype));
    demand_.free_bytes = device.free_bytes - weights.private_bytes;
    const auto step_bytes = [&] {
      const StepLimits limits = MakeLimits(config_, model, device, demand_.model_max_len);
      const size_t draft_bytes = proposer_ == nullptr ? 0 : proposer_->DeviceBytes(limits);
      return ModelRunner::DeviceBytes(model, groups, limits) + draft_bytes;
    };
    if (config_.max_num_batched_tokens == 0) {
      config_.max_num_batched_tokens = device.is_host_memory ? kCpuStepTokens : kGpuStepTokens;
      while (config_.max_num_batched_tokens > kCpuStepTokens &&
             step_bytes() > demand_.free_bytes / kScratchShareOfFree) {
        config_.max_num_batched_tokens /= 2;
      }
    }
    demand_.gpu_bytes = device.is_host_memory ? 0 : device.total_bytes;
    demand_.weights_mapped_bytes = weights.mapped_bytes;
    demand_.weights_private_bytes = weights.private_bytes;
    demand_.scratch_bytes = step_bytes() + device.workspace_bytes;
    demand_.kv = DescribeKvCache(attention, groups);
    GALE_ASSIGN_OR_RETURN(plan_, PlanMemory(config_, demand_));
    free_bytes_ = device.free_bytes;
    return {};
  }

  const MemoryPlan& plan() const { return plan_; }
  const MemoryDemand& demand() const { return demand_; }
  MemoryReport Report() const {
    return {.weights_mapped_bytes = demand_.weights_mapped_bytes,
            .weights_private_bytes = demand_.weights_private_bytes,
            .kv_bytes = plan_.kv_bytes,
            .scratch_bytes = demand_.scratch_bytes,
            .free_bytes = free_bytes_,
            .max_model_len = plan_.max_model_len,
            .max_requests = plan_.max_requests,
            .kv_tokens = plan_.kv_tokens};
  }

 private:
  EngineConfig& config_;
  Backend& backend_;
  const DraftProposer* proposer_;
  MemoryDemand demand_;
  MemoryPlan plan_;
  size_t free_bytes_ = 0;
};

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

Result<EngineParts> LoadEngineParts(const EngineConfig& config, const LoadProgress& progress,
                                    const MemoryObserver& on_plan, const WrapProposer& wrap) {
  GALE_RETURN_IF_ERROR(config.Validate());
  EngineParts parts;
  parts.config = config;
  GALE_ASSIGN_OR_RETURN(const std::string path, ResolveModel(config.model, config.load_format));
  parts.config.model = path;
  GALE_ASSIGN_OR_RETURN(parts.info, ReadModelInfo(path, config.load_format));
  GALE_RETURN_IF_ERROR(LoadOptional(Tokenizer::FromFolder(path), parts.tokenizer));
  GALE_RETURN_IF_ERROR(LoadOptional(ChatTemplate::FromFolder(path), parts.chat_template));

  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend,
                        CreateBackend(config.device, {.threads = config.threads}));
  if (!config.numerics) {
    parts.config.numerics =
        backend->info().name == "cpu" ? Numerics::kBatchInvariant : Numerics::kFast;
  }
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<DraftProposer> proposer,
                        LoadProposer(parts.config, parts.info, *backend));
  if (wrap && proposer != nullptr) proposer = wrap(std::move(proposer));
  MemoryPlanner planner(parts.config, *backend, proposer.get(), parts.info.max_position);
  const LoadOptions options{
      .model = path,
      .format = config.load_format,
      .dtype = config.dtype,
      .quantize = config.quantize,
      .numerics = *parts.config.numerics,
      .seed = config.seed,
      .on_declared = [&](const Model& declared, const WeightBytes& weights) -> Status {
        GALE_RETURN_IF_ERROR(planner.Decide(declared, weights));
        if (on_plan) on_plan(planner.Report());
        return {};
      },
      .max_model_len = config.max_model_len};
  GALE_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(options, *backend, progress));
  GALE_ASSIGN_OR_RETURN(
      std::unique_ptr<Worker> worker,
      Worker::Create(std::move(backend), std::move(loaded.model), config.block_tokens,
                     config.kv_cache_dtype, std::move(proposer)));

  const Model& model = worker->model();
  const MemoryPlan& plan = planner.plan();
  const MemoryDemand& demand = planner.demand();
  const int num_host_blocks = NumHostBlocks(config.host_kv_bytes, plan.block_bytes);
  GALE_RETURN_IF_ERROR(worker->Allocate(
      plan.num_blocks, num_host_blocks,
      MakeLimits(parts.config, model, worker->backend().info(), plan.max_model_len)));

  parts.config.device = worker->backend().info().name;
  parts.device = worker->backend().info().description;
  parts.config.dtype = ResolvedDType(model.dtype());
  parts.config.kv_cache_dtype = config.kv_cache_dtype.value_or(PlainKv(model.dtype()));
  parts.config.threads = config.threads > 0 ? config.threads : AvailableCpus();
  parts.config.max_model_len = plan.max_model_len;
  parts.config.kv_cache_bytes = plan.kv_bytes;
  parts.kv = demand.kv;
  parts.num_blocks = plan.num_blocks;
  parts.num_host_blocks = num_host_blocks;
  parts.host_bytes_per_s = worker->host_bytes_per_s();
  parts.mapped_bytes = model.mapped_bytes();
  parts.private_bytes = model.private_bytes() + plan.kv_bytes + demand.scratch_bytes;
  parts.executor = MakeLocalExecutor(std::move(worker));
  return parts;
}

Result<std::unique_ptr<LlmEngine>> LlmEngine::Create(const EngineConfig& config,
                                                     const LoadProgress& progress,
                                                     const MemoryObserver& on_plan) {
  GALE_ASSIGN_OR_RETURN(EngineParts parts, LoadEngineParts(config, progress, on_plan));
  return StartEngine(std::move(parts));
}

}  // namespace gale
