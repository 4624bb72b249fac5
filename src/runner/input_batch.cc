#include "runner/input_batch.h"

#include <algorithm>

namespace gale {

Result<InputBatch> InputBatch::Create(Backend& backend, const StepLimits& limits,
                                      std::span<const int> block_tokens) {
  const auto max_tokens = static_cast<size_t>(limits.max_tokens);
  const auto max_seqs = static_cast<size_t>(limits.max_seqs);
  InputBatch batch;
  GALE_ASSIGN_OR_RETURN(batch.token_ids_, StagedArray<int32_t>::Create(backend, max_tokens));
  GALE_ASSIGN_OR_RETURN(batch.positions_, StagedArray<int32_t>::Create(backend, max_tokens));
  GALE_ASSIGN_OR_RETURN(batch.seq_lens_, StagedArray<int32_t>::Create(backend, max_seqs));
  for (const int tokens : block_tokens) {
    // One block more than the positions need: a table may hold the block of the next token already.
    const auto max_blocks = static_cast<size_t>((limits.max_model_len + tokens - 1) / tokens + 1);
    Group& group = batch.groups_.emplace_back();
    group.block_tokens = tokens;
    GALE_ASSIGN_OR_RETURN(group.block_tables,
                          StagedArray<int32_t>::Create(backend, max_seqs * max_blocks));
    GALE_ASSIGN_OR_RETURN(group.slot_mapping, StagedArray<int32_t>::Create(backend, max_tokens));
  }
  batch.Clear();
  return batch;
}

void InputBatch::Clear() {
  token_ids_.Clear();
  positions_.Clear();
  seq_lens_.Clear();
  cu_seqlens_.assign(1, 0);
  for (Group& group : groups_) {
    group.block_tables.Clear();
    group.slot_mapping.Clear();
    group.tables.clear();
  }
}

void InputBatch::Add(const RunnerSequence& seq, int num_tokens) {
  const int begin = seq.num_computed;
  const int end = begin + num_tokens;
  GALE_CHECK_GT(num_tokens, 0);
  GALE_CHECK_LE(static_cast<size_t>(end), seq.tokens.size());
  GALE_CHECK_EQ(seq.blocks.size(), groups_.size());

  std::ranges::copy(seq.tokens.begin() + begin, seq.tokens.begin() + end,
                    token_ids_.Extend(static_cast<size_t>(num_tokens)).begin());
  for (int position = begin; position < end; ++position) positions_.Push(position);
  cu_seqlens_.push_back(cu_seqlens_.back() + num_tokens);
  seq_lens_.Push(end);
  for (size_t g = 0; g < groups_.size(); ++g) AddBlocks(groups_[g], seq.blocks[g], begin, end);
}

void InputBatch::AddBlocks(Group& group, const BlockList& table, int begin, int end) {
  group.tables.push_back(&table);
  for (int position = begin; position < end; ++position) {
    const auto block = static_cast<size_t>(position / group.block_tokens);
    GALE_CHECK_LT(block, table.size());
    group.slot_mapping.Push(table[block] * group.block_tokens + position % group.block_tokens);
  }
}

int64_t InputBatch::FillTables(Group& group) {
  size_t width = 0;
  for (const BlockList* table : group.tables) width = std::max(width, table->size());
  for (const BlockList* table : group.tables) {
    const std::span<int32_t> row = group.block_tables.Extend(width);
    std::fill(std::ranges::copy(*table, row.begin()).out, row.end(), 0);
  }
  return static_cast<int64_t>(width);
}

ForwardBatch InputBatch::Upload(Backend& backend, Stream& stream) {
  ForwardBatch batch;
  batch.token_ids = token_ids_.Upload(backend, stream, {num_tokens()});
  batch.positions = positions_.Upload(backend, stream, {num_tokens()});
  const TensorView seq_lens = seq_lens_.Upload(backend, stream, {num_seqs()});
  for (Group& group : groups_) {
    const int64_t width = FillTables(group);
    AttentionBatch& attention = batch.attention.emplace_back();
    attention.cu_seqlens_q = cu_seqlens_;
    attention.seq_lens_upper = seq_lens_.host();
    attention.seq_lens = seq_lens;
    attention.block_tables = group.block_tables.Upload(backend, stream, {num_seqs(), width});
    attention.slot_mapping = group.slot_mapping.Upload(backend, stream, {num_tokens()});
  }
  return batch;
}

}  // namespace gale
