#include "support/model_harness.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"

namespace gale {
namespace {

/// Any error here is a failed test program, not a result.
template <class T>
T Must(Result<T> result) {
  if (!result) internal::CheckFailed(__FILE__, __LINE__, result.error().message);
  return std::move(*result);
}

}  // namespace

Result<std::unique_ptr<ModelHarness>> ModelHarness::Load(Backend& backend, HarnessOptions options) {
  std::unique_ptr<ModelHarness> harness(new ModelHarness(backend, std::move(options)));
  GALE_ASSIGN_OR_RETURN(harness->loaded_, LoadModel(harness->options_.load, backend));
  GALE_RETURN_IF_ERROR(harness->Prepare());
  return harness;
}

Status ModelHarness::Prepare() {
  stream_ = backend_.CreateStream();
  lengths_.assign(options_.max_seqs, 0);
  for (const AttentionGroup& group : loaded_.model->attention_groups()) {
    GALE_RETURN_IF_ERROR(AddGroup(group.spec));
  }
  if (const auto description = loaded_.model->Describe(); options_.fused && description) {
    GALE_ASSIGN_OR_RETURN(fused_, backend_.CreateFusedDecoder(*description));
  }

  const int tokens = options_.max_seqs * options_.max_tokens;
  GALE_ASSIGN_OR_RETURN(
      Buffer scratch, backend_.Allocate(loaded_.model->ScratchBytes(tokens), MemoryKind::kDevice));
  scratch_ = ScratchArena(std::move(scratch));
  return stream_->Synchronize();
}

Status ModelHarness::AddGroup(const AttentionSpec& spec) {
  const auto& attention = attention_.emplace_back(backend_.CreateAttention(spec));
  block_tokens_ = attention->BlockTokens()[0];
  max_blocks_ = (options_.max_tokens + block_tokens_ - 1) / block_tokens_;
  const int64_t blocks = int64_t{options_.max_seqs} * max_blocks_;
  const auto block_bytes = static_cast<int64_t>(attention->BytesPerBlock(block_tokens_));
  Buffer& cache = caches_.emplace_back();
  GALE_ASSIGN_OR_RETURN(cache, backend_.Allocate(blocks * block_bytes, MemoryKind::kDevice));
  // What a block held before must not matter: all bytes 0xFF are NaNs in every float type.
  const std::vector<uint8_t> garbage(blocks * block_bytes, 0xFF);
  backend_.Copy(*stream_, cache.data(), garbage.data(), garbage.size());
  const KvCacheView view = {TensorView(cache.data(), DType::kU8, {blocks, block_bytes}),
                            block_tokens_};
  attention->BindCache(view);
  if (caches_.size() == 1) first_cache_ = view;
  return {};
}

int32_t ModelHarness::BlockOf(int seq, int index) const {
  const int blocks = options_.max_seqs * max_blocks_;
  const int dense = seq * max_blocks_ + index;
  // 7919 is prime and larger than any pool here, so this is a permutation.
  return options_.permute_blocks ? static_cast<int32_t>((int64_t{dense} * 7919 + 3) % blocks)
                                 : dense;
}

HostBatch ModelHarness::MakeBatch(const std::vector<Piece>& pieces) {
  HostBatch batch;
  batch.cu_seqlens_q.push_back(0);
  for (const Piece& piece : pieces) {
    int& length = lengths_[piece.seq];
    for (const TokenId token : piece.tokens) {
      batch.token_ids.push_back(token);
      batch.positions.push_back(length);
      batch.slot_mapping.push_back(BlockOf(piece.seq, length / block_tokens_) * block_tokens_ +
                                   length % block_tokens_);
      ++length;
    }
    GALE_CHECK_LE(length, options_.max_tokens);
    batch.cu_seqlens_q.push_back(static_cast<int32_t>(batch.token_ids.size()));
    batch.seq_lens.push_back(length);
    for (int i = 0; i < max_blocks_; ++i) batch.block_tables.push_back(BlockOf(piece.seq, i));
  }
  if (options_.falsify) options_.falsify(batch);
  return batch;
}

TensorView ModelHarness::Upload(const std::vector<int32_t>& values) {
  const size_t bytes = values.size() * sizeof(int32_t);
  uploads_.push_back(Must(backend_.Allocate(bytes, MemoryKind::kDevice)));
  backend_.Copy(*stream_, uploads_.back().data(), values.data(), bytes);
  return TensorView(uploads_.back().data(), DType::kI32, {static_cast<int64_t>(values.size())});
}

std::vector<TokenId> ModelHarness::Greedy(const std::vector<TokenId>& prompt, size_t count) {
  Reset();
  std::vector<TokenId> next = prompt;
  std::vector<TokenId> greedy;
  while (greedy.size() < count) {
    const std::vector<float> logits = Step({{0, next}});
    const auto last = logits.end() - vocab_size();
    next = {static_cast<TokenId>(std::max_element(last, logits.end()) - last)};
    greedy.push_back(next[0]);
  }
  return greedy;
}

std::vector<float> ModelHarness::Step(const std::vector<Piece>& pieces) {
  const HostBatch host = MakeBatch(pieces);
  const auto tokens = static_cast<int64_t>(host.token_ids.size());
  const auto seqs = static_cast<int64_t>(pieces.size());
  Model& model = *loaded_.model;
  uploads_.clear();

  AttentionBatch attention;
  attention.cu_seqlens_q = host.cu_seqlens_q;
  attention.seq_lens_upper = host.seq_lens;
  attention.seq_lens = Upload(host.seq_lens);
  attention.slot_mapping = Upload(host.slot_mapping);
  const TensorView tables = Upload(host.block_tables);
  attention.block_tables = TensorView(tables.data, DType::kI32, {seqs, max_blocks_});

  ForwardBatch batch;
  batch.token_ids = Upload(host.token_ids);
  batch.positions = Upload(host.positions);
  batch.attention.assign(attention_.size(), attention);

  const auto take = [&](DType dtype, int64_t columns) {
    uploads_.push_back(
        Must(backend_.Allocate(tokens * columns * DTypeBytes(dtype), MemoryKind::kDevice)));
    return TensorView(uploads_.back().data(), dtype, {tokens, columns});
  };
  const TensorView logits = take(DType::kF32, model.vocab_size());
  if (fused_ != nullptr && fused_->Supports(attention)) {
    ++fused_steps_;
    fused_->Run(*stream_, {.token_ids = batch.token_ids,
                           .positions = batch.positions,
                           .attention = &attention,
                           .cache = first_cache_,
                           .logits = logits});
  } else {
    const TensorView hidden = take(model.dtype(), model.hidden_size());
    scratch_.Reset();
    ForwardContext context = {&backend_, stream_.get(), {}, &scratch_};
    std::vector<std::vector<std::byte>> plans(attention_.size());
    for (size_t g = 0; g < attention_.size(); ++g) {
      context.attention.push_back(attention_[g].get());
      plans[g].resize(attention_[g]->PlanBytes(static_cast<int>(tokens), static_cast<int>(seqs)));
      uploads_.push_back(Must(backend_.Allocate(plans[g].size(), MemoryKind::kDevice)));
      batch.attention[g].host_plan = plans[g];
      batch.attention[g].device_plan = uploads_.back().data();
      attention_[g]->Plan(batch.attention[g]);
      backend_.Copy(*stream_, uploads_.back().data(), plans[g].data(), plans[g].size());
    }
    const auto layers = std::ssize(options_.captured_layers);
    const TensorView states = take(DType::kF32, layers * model.hidden_size());
    batch.capture = {options_.captured_layers,
                     TensorView(states.data, DType::kF32, {layers, tokens, model.hidden_size()})};
    model.Embed(context, batch, hidden);
    model.Forward(context, batch, hidden);
    captured_.resize(static_cast<size_t>(states.NumElements()));
    backend_.Copy(*stream_, captured_.data(), states.data, states.Bytes());
    GALE_CHECK_LE(scratch_.used(), model.ScratchBytes(static_cast<int>(tokens)));
    model.ComputeLogits(context, hidden, logits);
  }

  std::vector<float> result(static_cast<size_t>(logits.NumElements()));
  backend_.Copy(*stream_, result.data(), logits.data, logits.Bytes());
  if (Status status = stream_->Synchronize(); !status) {
    internal::CheckFailed(__FILE__, __LINE__, status.error().message);
  }
  return result;
}

}  // namespace gale
