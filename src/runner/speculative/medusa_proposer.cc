#include "runner/speculative/medusa_proposer.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gale {
namespace {

/// Rows of a draw: one for each sequence.
StepLimits DrawLimits(const StepLimits& limits) {
  StepLimits draws = limits;
  draws.max_tokens = limits.max_seqs;
  draws.max_draft_tokens = 0;
  return draws;
}

}  // namespace

/// Rows of logits at a time.
int MedusaProposer::LogitsTile() const {
  const StepLimits& limits = device_.limits;
  const size_t row_bytes = static_cast<size_t>(heads_->vocab_size()) * sizeof(float);
  return static_cast<int>(
      std::clamp<size_t>(limits.logits_bytes / row_bytes, 1, static_cast<size_t>(limits.max_seqs)));
}

size_t MedusaProposer::DeviceBytes(const StepLimits& limits) const {
  const size_t row_bytes = static_cast<size_t>(heads_->hidden_size()) * DTypeBytes(heads_->dtype());
  return TargetStates::DeviceBytes(limits, heads_->dtype(), 1, heads_->hidden_size()) +
         heads_->ScratchBytes(limits.max_seqs) +
         2 * static_cast<size_t>(limits.max_seqs) * row_bytes + limits.logits_bytes;
}

Status MedusaProposer::Allocate(const DraftDevice& device) {
  device_ = device;
  Backend& backend = *device.backend;
  const StepLimits& limits = device.limits;
  const auto max_seqs = static_cast<size_t>(limits.max_seqs);
  GALE_RETURN_IF_ERROR(states_.Allocate(device, heads_->dtype(), 1, heads_->hidden_size()));
  const size_t row_bytes = static_cast<size_t>(heads_->hidden_size()) * DTypeBytes(heads_->dtype());
  for (Buffer* buffer : {&gathered_, &draw_rows_}) {
    GALE_ASSIGN_OR_RETURN(*buffer, backend.Allocate(max_seqs * row_bytes, MemoryKind::kDevice));
  }
  const size_t logits_bytes =
      static_cast<size_t>(LogitsTile()) * static_cast<size_t>(heads_->vocab_size()) * sizeof(float);
  GALE_ASSIGN_OR_RETURN(logits_, backend.Allocate(logits_bytes, MemoryKind::kDevice));
  GALE_ASSIGN_OR_RETURN(
      Buffer scratch, backend.Allocate(heads_->ScratchBytes(limits.max_seqs), MemoryKind::kDevice));
  scratch_ = ScratchArena(std::move(scratch));

  const auto take = [&] {
    samplers_.clear();
    for (int head = 0; head < heads_->num_heads(); ++head) {
      samplers_.emplace_back(arrays_.block, arrays_.masks, DrawLimits(limits),
                             heads_->vocab_size());
    }
    arrays_.sources = arrays_.block.Take<int32_t>(max_seqs);
  };
  take();
  GALE_ASSIGN_OR_RETURN(arrays_.block, StagedBlock::Create(backend, arrays_.block.bytes()));
  GALE_ASSIGN_OR_RETURN(arrays_.masks, StagedBlock::Create(backend, arrays_.masks.bytes()));
  take();
  for (Sampler& sampler : samplers_) GALE_RETURN_IF_ERROR(sampler.Allocate(backend));
  draft_tables_.last_tokens = device_.tables->last_tokens;
  context_ = {.backend = &backend, .stream = device_.stream, .attention = {}, .scratch = &scratch_};
  return {};
}

TensorView MedusaProposer::Rows(const Buffer& buffer, int64_t rows) const {
  return TensorView(buffer.data(), heads_->dtype(), {rows, heads_->hidden_size()});
}

Status MedusaProposer::Observe(const TargetRows& rows) {
  std::vector<TargetStates::Slice> slices;
  for (const TargetRows::Part& part : rows.parts) {
    if (part.seq->sampling.speculative == Speculation::kOff) continue;
    states_.DropFrom(part.seq->slot, 0);
    // Any of a draft's rows may turn out to be the last one that counts.
    const int32_t kept = std::min(part.num_tokens, 1 + device_.limits.max_draft_tokens);
    slices.push_back({.slot = part.seq->slot,
                      .position = part.begin + part.num_tokens - kept,
                      .first_row = part.first_row + part.num_tokens - kept,
                      .num_rows = kept});
  }
  states_.Keep(TargetStates::Planes(rows), slices);
  return {};
}

Status MedusaProposer::Propose(std::span<DraftTask> tasks) {
  arrays_.sources.Clear();
  for (Sampler& sampler : samplers_) sampler.Clear();
  int num_heads = 0;
  for (DraftTask& task : tasks) {
    const RunnerSequence& seq = *task.seq;
    const std::span<const TargetStates::Row> kept = states_.Of(seq.slot);
    const auto last = std::ranges::find(kept, seq.num_tokens() - 2, &TargetStates::Row::position);
    task.num_tokens = last == kept.end() ? 0 : std::min(task.num_tokens, heads_->num_heads());
    if (task.num_tokens == 0) continue;
    num_heads = std::max(num_heads, task.num_tokens);
    const auto row = static_cast<int32_t>(arrays_.sources.size());
    arrays_.sources.Push(last->index);
    for (int32_t head = 0; head < task.num_tokens; ++head) {
      samplers_[static_cast<size_t>(head)].AddDraw(
          seq, {.hidden_row = row, .place = device_.tables->DraftIndex(seq.slot, head)},
          seq.num_tokens() + head);
    }
  }
  if (num_heads == 0) return {};
  arrays_.block.Upload(*device_.backend, *device_.stream);
  const auto n = static_cast<int64_t>(arrays_.sources.size());
  TargetStates::Gather(device_, states_.planes(), arrays_.sources.device({n}), Rows(gathered_, n));
  for (int head = 0; head < num_heads; ++head) Draw(head);
  return {};
}

/// Draws with the number and the parameters that the target will draw with: where both are alike,
/// so are the tokens.
void MedusaProposer::Draw(int head) {
  Sampler& sampler = samplers_[static_cast<size_t>(head)];
  const int64_t num_draws = std::ssize(sampler.draws());
  const int64_t tile = LogitsTile();
  for (int64_t begin = 0; begin < num_draws; begin += tile) {
    const int64_t n = std::min(tile, num_draws - begin);
    GatherRowsArgs gather;
    gather.x = Rows(gathered_, static_cast<int64_t>(arrays_.sources.size()));
    gather.rows = sampler.DrawRows(begin, begin + n);
    gather.out = Rows(draw_rows_, n);
    device_.backend->GatherRows(*device_.stream, gather);
    const TensorView logits(logits_.data(), DType::kF32, {n, heads_->vocab_size()});
    scratch_.Reset();
    heads_->Forward(context_, head, gather.out, logits);
    sampler.DrawTokens(*device_.backend, *device_.stream, logits, begin, draft_tables_,
                       heads_->token_ids());
  }
}

}  // namespace gale
