#include "models/sequence_runner.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"
#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kChunkTokens = 512;
constexpr size_t kLogitsBytes = size_t{64} << 20;

int LogitsTile(const Model& model, int max_tokens) {
  const size_t row_bytes = static_cast<size_t>(model.vocab_size()) * sizeof(float);
  return static_cast<int>(
      std::clamp<size_t>(kLogitsBytes / row_bytes, 1, static_cast<size_t>(max_tokens)));
}

}  // namespace

SequenceRunner::SequenceRunner(Backend& backend, Model& model, int max_tokens)
    : backend_(backend),
      model_(model),
      max_tokens_(max_tokens),
      chunk_tokens_(std::min(max_tokens, kChunkTokens)),
      logits_tile_(LogitsTile(model, max_tokens)),
      stream_(backend.CreateStream()) {}

Result<std::unique_ptr<SequenceRunner>> SequenceRunner::Create(Backend& backend, Model& model,
                                                               int max_tokens,
                                                               std::optional<KvFormat> kv) {
  GALE_CHECK_LE(1, max_tokens);
  std::unique_ptr<SequenceRunner> runner(new SequenceRunner(backend, model, max_tokens));
  GALE_RETURN_IF_ERROR(runner->Allocate(kv));
  return runner;
}

Status SequenceRunner::Allocate(std::optional<KvFormat> kv) {
  for (AttentionGroup& group : model_.attention_groups()) {
    if (kv) group.spec.kv = *kv;
    GALE_RETURN_IF_ERROR(AddGroup(group.spec));
  }
  const auto allocate = [&](Buffer& buffer, size_t bytes) -> Status {
    GALE_ASSIGN_OR_RETURN(buffer, backend_.Allocate(bytes, MemoryKind::kDevice));
    return {};
  };
  Buffer scratch;
  GALE_RETURN_IF_ERROR(
      allocate(scratch, model_.ScratchBytes(std::max(chunk_tokens_, logits_tile_))));
  scratch_ = ScratchArena(std::move(scratch));
  GALE_RETURN_IF_ERROR(
      allocate(inputs_, (2 * static_cast<size_t>(chunk_tokens_) + 1) * sizeof(int32_t)));
  GALE_RETURN_IF_ERROR(
      allocate(hidden_, DTypeBytes(model_.dtype()) *
                            static_cast<size_t>(int64_t{max_tokens_} * model_.hidden_size())));
  const size_t logits =
      static_cast<size_t>(logits_tile_) * static_cast<size_t>(model_.vocab_size());
  GALE_RETURN_IF_ERROR(allocate(logits_, logits * sizeof(float)));
  host_logits_.resize(logits);
  return stream_->Synchronize();
}

Status SequenceRunner::AddGroup(const AttentionSpec& spec) {
  Group& group = groups_.emplace_back();
  group.attention = backend_.CreateAttention(spec);
  if (group.attention == nullptr) {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("device '{}' has no attention for heads of {} elements, which this "
                    "model has; run it with --device cpu",
                    backend_.info().name, spec.head_dim));
  }
  group.block_tokens = group.attention->BlockTokens()[0];
  const int blocks = (max_tokens_ + group.block_tokens - 1) / group.block_tokens;
  const size_t block_bytes = group.attention->BytesPerBlock(group.block_tokens);
  GALE_ASSIGN_OR_RETURN(group.cache, backend_.Allocate(static_cast<size_t>(blocks) * block_bytes,
                                                       MemoryKind::kDevice));
  group.attention->BindCache({.blocks = TensorView(group.cache.data(), DType::kU8,
                                                   {blocks, static_cast<int64_t>(block_bytes)}),
                              .block_tokens = group.block_tokens});
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  GALE_ASSIGN_OR_RETURN(group.tables,
                        backend_.Allocate(table.size() * sizeof(int32_t), MemoryKind::kDevice));
  backend_.Copy(*stream_, group.tables.data(), table.data(), table.size() * sizeof(int32_t));
  GALE_RETURN_IF_ERROR(stream_->Synchronize());
  GALE_ASSIGN_OR_RETURN(group.plan, backend_.Allocate(group.attention->PlanBytes(chunk_tokens_, 1),
                                                      MemoryKind::kDevice));
  return {};
}

Status SequenceRunner::Forward(std::span<const TokenId> tokens) {
  GALE_CHECK_LE(std::ssize(tokens), max_tokens_);
  for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk_tokens_)) {
    const size_t count = std::min(tokens.size() - begin, static_cast<size_t>(chunk_tokens_));
    GALE_RETURN_IF_ERROR(ForwardChunk(tokens.subspan(begin, count), static_cast<int>(begin)));
  }
  return {};
}

Status SequenceRunner::ForwardChunk(std::span<const TokenId> tokens, int begin) {
  const auto count = static_cast<int64_t>(tokens.size());
  const int32_t length = begin + static_cast<int32_t>(count);
  std::vector<int32_t> host;
  const auto add = [&](auto&& value_at) {
    const size_t offset = host.size();
    for (int64_t i = 0; i < count; ++i) host.push_back(value_at(static_cast<int32_t>(i)));
    return TensorView(static_cast<int32_t*>(inputs_.data()) + offset, DType::kI32, {count});
  };
  ForwardBatch batch;
  batch.token_ids = add([&](int32_t i) { return tokens[static_cast<size_t>(i)]; });
  // Block i of the sequence is block i of the cache, so that slots are positions.
  batch.positions = add([&](int32_t i) { return begin + i; });
  host.push_back(length);
  const TensorView seq_lens(static_cast<int32_t*>(inputs_.data()) + host.size() - 1, DType::kI32,
                            {1});
  backend_.Copy(*stream_, inputs_.data(), host.data(), host.size() * sizeof(int32_t));

  scratch_.Reset();
  ForwardContext context = {&backend_, stream_.get(), {}, &scratch_};
  const std::vector<int32_t> cu_seqlens = {0, static_cast<int32_t>(count)};
  const std::vector<int32_t> lengths = {length};
  std::vector<std::vector<std::byte>> plans;
  for (Group& group : groups_) {
    const auto blocks = static_cast<int64_t>(group.tables.bytes() / sizeof(int32_t));
    std::vector<std::byte>& plan = plans.emplace_back(group.plan.bytes());
    AttentionBatch& attention = batch.attention.emplace_back();
    attention.cu_seqlens_q = cu_seqlens;
    attention.seq_lens_upper = lengths;
    attention.seq_lens = seq_lens;
    attention.block_tables = TensorView(group.tables.data(), DType::kI32, {1, blocks});
    attention.slot_mapping = batch.positions;
    attention.host_plan = plan;
    attention.device_plan = group.plan.data();
    group.attention->Plan(attention);
    backend_.Copy(*stream_, group.plan.data(), plan.data(), plan.size());
    context.attention.push_back(group.attention.get());
  }
  const TensorView hidden = HiddenRows(begin, length);
  model_.Embed(context, batch, hidden);
  model_.Forward(context, batch, hidden);
  return stream_->Synchronize();
}

TensorView SequenceRunner::HiddenRows(int64_t begin, int64_t end) const {
  return TensorView(hidden_.data(), model_.dtype(), {max_tokens_, model_.hidden_size()})
      .Rows(begin, end);
}

Result<std::span<const float>> SequenceRunner::Logits(int begin, int end) {
  GALE_CHECK_LE(end - begin, logits_tile_);
  scratch_.Reset();
  ForwardContext context = {&backend_, stream_.get(), {}, &scratch_};
  const TensorView logits(logits_.data(), DType::kF32, {end - begin, model_.vocab_size()});
  model_.ComputeLogits(context, HiddenRows(begin, end), logits);
  backend_.Copy(*stream_, host_logits_.data(), logits.data, logits.Bytes());
  GALE_RETURN_IF_ERROR(stream_->Synchronize());
  return std::span<const float>(host_logits_).first(static_cast<size_t>(logits.NumElements()));
}

}  // namespace gale
