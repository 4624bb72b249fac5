#include "runner/input_batch.h"

#include <algorithm>

namespace gale {

std::vector<KvGroupLayout> KvGroupLayouts(std::span<const KvGroupRuntime> groups,
                                          const StepLimits& limits) {
  std::vector<KvGroupLayout> layouts;
  for (const KvGroupRuntime& group : groups) {
    layouts.push_back({.block_tokens = group.block_tokens,
                       .plan_bytes = group.attention->PlanBytes(limits.max_tokens, limits.max_seqs),
                       .window = group.spec.window});
  }
  return layouts;
}

InputBatch::InputBatch(StagedBlock& arrays, StagedBlock& tables, const StepLimits& limits,
                       std::span<const KvGroupLayout> groups, size_t first_group, int lookahead)
    : first_group_(first_group), lookahead_(lookahead) {
  const auto max_tokens = static_cast<size_t>(limits.max_tokens);
  const auto max_seqs = static_cast<size_t>(limits.max_seqs);
  token_ids_ = arrays.Take<int32_t>(max_tokens);
  positions_ = arrays.Take<int32_t>(max_tokens);
  seq_lens_ = arrays.Take<int32_t>(max_seqs);
  for (const KvGroupLayout& layout : groups) {
    Group& group = groups_.emplace_back();
    group.block_tokens = layout.block_tokens;
    group.window = layout.window;
    // One block more than the positions need: a table may hold the block of the next token already.
    group.max_blocks = (limits.max_model_len + layout.block_tokens - 1) / layout.block_tokens + 1;
    group.slot_mapping = arrays.Take<int32_t>(max_tokens);
    group.plan = arrays.Take<int32_t>((layout.plan_bytes + sizeof(int32_t) - 1) / sizeof(int32_t));
    group.block_tables = tables.Take<int32_t>(max_seqs * static_cast<size_t>(group.max_blocks));
    group.graph_plan.resize(group.plan.capacity() * sizeof(int32_t));
  }
  graph_seq_lens_.resize(max_seqs);
  Clear();
}

void InputBatch::Clear() {
  token_ids_.Clear();
  positions_.Clear();
  seq_lens_.Clear();
  cu_seqlens_.assign(1, 0);
  for (Group& group : groups_) {
    group.slot_mapping.Clear();
    group.plan.Clear();
    group.block_tables.Clear();
  }
}

void InputBatch::Add(const RunnerSequence& seq, int begin, int num_tokens,
                     std::span<const int32_t> drafts) {
  const int end = begin + num_tokens;
  GALE_CHECK_GT(num_tokens, 0);
  GALE_CHECK_LE(end + lookahead_, seq.num_tokens() + std::ssize(drafts));
  GALE_CHECK_GE(seq.blocks.size(), first_group_ + groups_.size());

  const auto num_known = static_cast<int>(seq.tokens.size());
  for (int position = begin; position < end; ++position) {
    const int read = position + lookahead_;
    if (read < num_known) {
      token_ids_.Push(seq.tokens[static_cast<size_t>(read)]);
    } else if (read >= seq.num_tokens()) {
      token_ids_.Push(drafts[static_cast<size_t>(read - seq.num_tokens())]);
    } else {
      GALE_CHECK_EQ(read, seq.num_tokens() - 1);
      token_ids_.Push(~seq.slot);
    }
    positions_.Push(position);
  }
  cu_seqlens_.push_back(cu_seqlens_.back() + num_tokens);
  seq_lens_.Push(end);
  for (size_t g = 0; g < groups_.size(); ++g) {
    AddBlocks(groups_[g], seq, seq.blocks[first_group_ + g], begin, end);
  }
}

void InputBatch::AddBlocks(Group& group, const RunnerSequence& seq, const BlockList& table,
                           int begin, int end) {
  // What the row holds behind the sequence's blocks is never read.
  std::ranges::copy(table,
                    group.block_tables.Extend(static_cast<size_t>(group.max_blocks)).begin());
  GALE_CHECK_LE(std::ssize(table), group.max_blocks);
  for (int position = begin; position < end; ++position) {
    // Behind the window of what comes next, blocks may be others' already: a draft that catches up
    // passes there.
    if (group.window > 0 && position + group.window <= seq.num_computed) {
      group.slot_mapping.Push(-1);
      continue;
    }
    const auto block = static_cast<size_t>(position / group.block_tokens);
    GALE_CHECK_LT(block, table.size());
    group.slot_mapping.Push(table[block] * group.block_tokens + position % group.block_tokens);
  }
}

void InputBatch::FillTo(int num_tokens, int num_seqs) {
  const auto missing = static_cast<size_t>(num_tokens - this->num_tokens());
  std::ranges::fill(token_ids_.Extend(missing), 0);
  std::ranges::fill(positions_.Extend(missing), 0);
  const auto missing_seqs = static_cast<size_t>(num_seqs - this->num_seqs());
  std::ranges::fill(seq_lens_.Extend(missing_seqs), 0);
  cu_seqlens_.resize(cu_seqlens_.size() + missing_seqs, num_tokens);
  GALE_CHECK_EQ(cu_seqlens_.back(), num_tokens);
  for (Group& group : groups_) {
    std::ranges::fill(group.slot_mapping.Extend(missing), -1);
    group.block_tables.Extend(missing_seqs * static_cast<size_t>(group.max_blocks));
  }
}

void InputBatch::UploadTables(Backend& backend, Stream& stream) const {
  for (const Group& group : groups_) group.block_tables.Upload(backend, stream);
}

ForwardBatch InputBatch::DeviceView(int num_tokens, int num_seqs) const {
  ForwardBatch batch;
  batch.token_ids = token_ids_.device({num_tokens});
  batch.positions = positions_.device({num_tokens});
  for (const Group& group : groups_) {
    AttentionBatch& attention = batch.attention.emplace_back();
    attention.seq_lens = seq_lens_.device({num_seqs});
    attention.block_tables = group.block_tables.device({num_seqs, group.max_blocks});
    attention.slot_mapping = group.slot_mapping.device({num_tokens});
    attention.device_plan = group.plan.device({0}).data;
  }
  return batch;
}

ForwardBatch InputBatch::View() {
  ForwardBatch batch = DeviceView(num_tokens(), num_seqs());
  for (size_t g = 0; g < groups_.size(); ++g) {
    StagedArray<int32_t>& plan = groups_[g].plan;
    plan.Clear();
    AttentionBatch& attention = batch.attention[g];
    attention.cu_seqlens_q = cu_seqlens_;
    attention.seq_lens_upper = seq_lens_.host();
    attention.host_plan = std::as_writable_bytes(plan.Extend(plan.capacity()));
  }
  return batch;
}

ForwardBatch InputBatch::GraphView(int num_tokens, int num_seqs) {
  graph_cu_seqlens_.assign(static_cast<size_t>(num_seqs) + 1, num_tokens);
  graph_cu_seqlens_.front() = 0;
  ForwardBatch batch = DeviceView(num_tokens, num_seqs);
  for (size_t g = 0; g < groups_.size(); ++g) {
    AttentionBatch& attention = batch.attention[g];
    attention.cu_seqlens_q = graph_cu_seqlens_;
    attention.seq_lens_upper = std::span(graph_seq_lens_).first(static_cast<size_t>(num_seqs));
    attention.host_plan = groups_[g].graph_plan;
    attention.fixed_launches = true;
  }
  return batch;
}

}  // namespace gale
