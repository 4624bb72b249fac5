#include "runner/worker.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace gale {

size_t PoolBlockBytes(const KvCacheSpec& spec) {
  size_t bytes = 0;
  for (const KvGroup& group : spec.groups) bytes = std::max(bytes, group.bytes_per_block);
  return bytes;
}

namespace {

/// All blocks have the size of the widest: those of a group with fewer layers hold more tokens, as
/// many as fit.
void FillBlocks(std::span<KvGroupRuntime> groups) {
  size_t widest = 0;
  for (const KvGroupRuntime& group : groups) widest = std::max(widest, group.bytes_per_block);
  for (KvGroupRuntime& group : groups) {
    const int first = group.block_tokens;
    for (const int tokens : group.attention->BlockTokens()) {
      const size_t bytes = group.attention->BytesPerBlock(tokens);
      if (tokens % first != 0 || tokens < group.block_tokens || bytes > widest) continue;
      group.block_tokens = tokens;
      group.bytes_per_block = bytes;
    }
  }
}

}  // namespace

Worker::Worker(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model)
    : backend_(std::move(backend)), model_(std::move(model)) {}

std::vector<AttentionGroup> AllAttentionGroups(const Model& model, const DraftProposer* proposer) {
  std::vector<AttentionGroup> groups = model.attention_groups();
  if (proposer == nullptr) return groups;
  for (const AttentionGroup& group : proposer->attention_groups()) groups.push_back(group);
  return groups;
}

Result<std::vector<KvGroupRuntime>> CreateKvGroups(Backend& backend,
                                                   std::span<const AttentionGroup> attention,
                                                   int block_tokens,
                                                   std::optional<KvFormat> format) {
  std::vector<KvGroupRuntime> groups;
  for (AttentionGroup group : attention) {
    KvGroupRuntime& runtime = groups.emplace_back();
    if (format) group.spec.kv = *format;
    runtime.attention = backend.CreateAttention(group.spec);
    if (runtime.attention == nullptr) {
      return MakeError(
          ErrorCode::kUnsupported,
          fmt::format("device '{}' has no attention for {}heads of {} elements, which this model "
                      "has{} run it with --device cpu",
                      backend.info().name, group.spec.kind == KvKind::kLatent ? "latent " : "",
                      group.spec.head_dim,
                      format ? ", and such a cache; leave --kv-cache-dtype out, or" : ";"));
    }
    const std::span<const int> allowed = runtime.attention->BlockTokens();
    if (std::ranges::find(allowed, block_tokens) == allowed.end()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("block_tokens: expected one of {{{}}} on device '{}', got {}",
                                   fmt::join(allowed, ", "), backend.info().name, block_tokens));
    }
    runtime.spec = group.spec;
    runtime.block_tokens = block_tokens;
    runtime.bytes_per_block = runtime.attention->BytesPerBlock(block_tokens);
  }
  FillBlocks(groups);
  return groups;
}

KvCacheSpec DescribeKvCache(std::span<const AttentionGroup> attention,
                            std::span<const KvGroupRuntime> groups) {
  KvCacheSpec spec;
  for (size_t g = 0; g < groups.size(); ++g) {
    spec.groups.push_back({.kind = attention[g].spec.kind,
                           .num_layers = attention[g].spec.layers,
                           .block_tokens = groups[g].block_tokens,
                           .bytes_per_block = groups[g].bytes_per_block,
                           .window = attention[g].spec.window,
                           .state_bytes = 0});
  }
  return spec;
}

Result<std::unique_ptr<Worker>> Worker::Create(std::unique_ptr<Backend> backend,
                                               std::unique_ptr<Model> model, int block_tokens,
                                               std::optional<KvFormat> format,
                                               std::unique_ptr<DraftProposer> proposer) {
  std::unique_ptr<Worker> worker(new Worker(std::move(backend), std::move(model)));
  worker->proposer_ = std::move(proposer);
  GALE_ASSIGN_OR_RETURN(worker->groups_,
                        CreateKvGroups(*worker->backend_,
                                       AllAttentionGroups(*worker->model_, worker->proposer_.get()),
                                       block_tokens, format));
  // Its sums are not those of the layers, so it cannot serve some steps of a sequence and not
  // others where every row must have one order of sums.
  std::optional<DecoderDescription> decoder = worker->model_->Describe();
  if (decoder && format) decoder->attention.kv = *format;
  if (decoder && decoder->attention.numerics == Numerics::kFast) {
    GALE_ASSIGN_OR_RETURN(worker->fused_, worker->backend_->CreateFusedDecoder(*decoder));
  }
  return worker;
}

Result<Buffer> Worker::AllocateBlocks(int num_blocks, MemoryKind kind) {
  return backend_->Allocate(static_cast<size_t>(num_blocks) * PoolBlockBytes(kv_cache_spec()),
                            kind);
}

Status Worker::Allocate(int num_blocks, int num_host_blocks, const StepLimits& limits) {
  GALE_ASSIGN_OR_RETURN(runner_,
                        ModelRunner::Create(*backend_, *model_, groups_, fused_.get(), limits));
  GALE_ASSIGN_OR_RETURN(pool_, AllocateBlocks(num_blocks, MemoryKind::kDevice));
  if (num_host_blocks > 0) {
    GALE_ASSIGN_OR_RETURN(host_pool_, AllocateBlocks(num_host_blocks, MemoryKind::kPinnedHost));
    GALE_RETURN_IF_ERROR(MeasureHostLink());
  }
  const auto block_bytes = static_cast<int64_t>(PoolBlockBytes(kv_cache_spec()));
  runner_->BindPool(TensorView(pool_.data(), DType::kU8, {num_blocks, block_bytes}),
                    TensorView(host_pool_.data(), DType::kU8, {num_host_blocks, block_bytes}));
  if (proposer_ != nullptr) return runner_->UseProposer(*proposer_);
  return {};
}

/// Moves as much as says something, twice: the first touches the memory.
Status Worker::MeasureHostLink() {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kMostBytes = size_t{32} << 20;
  const size_t bytes = std::min({kMostBytes, pool_.bytes(), host_pool_.bytes()});
  const std::unique_ptr<Stream> stream = backend_->CreateStream();
  for (int round = 0; round < 2; ++round) {
    const Clock::time_point begin = Clock::now();
    backend_->Copy(*stream, pool_.data(), host_pool_.data(), bytes);
    GALE_RETURN_IF_ERROR(stream->Synchronize());
    const std::chrono::duration<double> seconds = Clock::now() - begin;
    host_bytes_per_s_ = static_cast<double>(bytes) / std::max(seconds.count(), 1e-9);
  }
  return {};
}

}  // namespace gale
