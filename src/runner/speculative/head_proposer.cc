#include "runner/speculative/head_proposer.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "runner/speculative/create_pass.h"

namespace gale {
namespace {

/// The head's row at a position reads the token behind it.
constexpr int kLookahead = 1;

}  // namespace

HeadProposer::Pass::Pass(StagedBlock& staged_arrays, StagedBlock& staged_tables,
                         const DraftDevice& device, const StepLimits& limits, int vocab_size)
    : input(staged_arrays, staged_tables, limits, KvGroupLayouts(device.groups, limits),
            static_cast<size_t>(device.first_group), kLookahead),
      sampler(staged_arrays, staged_tables, limits, vocab_size),
      sources(staged_arrays.Take<int32_t>(static_cast<size_t>(limits.max_tokens))) {}

void HeadProposer::Pass::Clear() {
  input.Clear();
  sampler.Clear();
  sources.Clear();
}

int HeadProposer::VocabSize() const {
  return head_->vocab_size() > 0 ? head_->vocab_size() : device_.target->vocab_size();
}

/// Rows of logits at a time.
int HeadProposer::LogitsTile() const {
  const StepLimits& limits = device_.limits;
  const size_t row_bytes = static_cast<size_t>(VocabSize()) * sizeof(float);
  return static_cast<int>(
      std::clamp<size_t>(limits.logits_bytes / row_bytes, 1, static_cast<size_t>(limits.max_seqs)));
}

/// Of passes that draw, the first takes in what the step before added.
StepLimits HeadProposer::PassLimits(bool draws) const {
  StepLimits pass = device_.limits;
  const int added = pass.max_seqs * (1 + pass.max_draft_tokens);
  pass.max_tokens = draws ? added : std::max(pass.max_tokens, 4 * added);
  pass.max_draft_tokens = 0;
  return pass;
}

size_t HeadProposer::DeviceBytes(const StepLimits& limits) const {
  const auto added = static_cast<size_t>(limits.max_seqs * (1 + limits.max_draft_tokens));
  const size_t rows = std::max(static_cast<size_t>(limits.max_tokens), 4 * added);
  const size_t row_bytes = static_cast<size_t>(head_->hidden_size()) * DTypeBytes(head_->dtype());
  // Of the arrays only the tables of blocks are large.
  const size_t blocks = static_cast<size_t>(limits.max_model_len) / 8 * sizeof(int32_t);
  const auto passes = static_cast<size_t>(limits.max_draft_tokens + 4);
  const size_t captured = head_->captured_layers().size() * static_cast<size_t>(limits.max_tokens);
  return captured * row_bytes +
         TargetStates::DeviceBytes(limits, head_->dtype(), num_planes(), head_->hidden_size()) +
         head_->ScratchBytes(static_cast<int>(rows)) +
         rows * row_bytes * (static_cast<size_t>(num_planes()) + 3) + limits.logits_bytes +
         passes * static_cast<size_t>(limits.max_seqs) * blocks;
}

Status HeadProposer::Allocate(const DraftDevice& device) {
  device_ = device;
  const auto allocate = [&](Buffer& buffer, int64_t rows, int64_t columns) -> Status {
    const size_t bytes = static_cast<size_t>(rows * columns) * DTypeBytes(head_->dtype());
    GALE_ASSIGN_OR_RETURN(buffer, device_.backend->Allocate(bytes, MemoryKind::kDevice));
    return {};
  };
  const int64_t hidden = head_->hidden_size();
  const int64_t rows = PassLimits(false).max_tokens;
  GALE_RETURN_IF_ERROR(states_.Allocate(device, head_->dtype(), num_planes(), hidden));
  GALE_RETURN_IF_ERROR(allocate(gathered_, rows, num_planes() * hidden));
  for (Buffer& buffer : hidden_) GALE_RETURN_IF_ERROR(allocate(buffer, rows, hidden));
  GALE_RETURN_IF_ERROR(allocate(embedded_, rows, hidden));
  GALE_RETURN_IF_ERROR(allocate(draw_rows_, device.limits.max_seqs, hidden));
  const size_t logits_bytes =
      static_cast<size_t>(LogitsTile()) * static_cast<size_t>(VocabSize()) * sizeof(float);
  GALE_ASSIGN_OR_RETURN(logits_, device.backend->Allocate(logits_bytes, MemoryKind::kDevice));
  const size_t scratch_bytes = std::max(head_->ScratchBytes(static_cast<int>(rows)),
                                        device.target->ScratchBytes(static_cast<int>(rows)));
  GALE_ASSIGN_OR_RETURN(Buffer scratch,
                        device.backend->Allocate(scratch_bytes, MemoryKind::kDevice));
  scratch_ = ScratchArena(std::move(scratch));

  for (int i = 0; i < device.limits.max_draft_tokens; ++i) {
    GALE_ASSIGN_OR_RETURN(passes_.emplace_back(),
                          CreatePass<Pass>(device_, PassLimits(true), VocabSize()));
  }
  for (auto* passes : {&prompt_passes_, &kept_passes_}) {
    for (std::unique_ptr<Pass>& pass : *passes) {
      GALE_ASSIGN_OR_RETURN(pass, CreatePass<Pass>(device_, PassLimits(false), VocabSize()));
    }
  }
  progress_.resize(static_cast<size_t>(device.limits.max_seqs));
  draft_tables_.last_tokens = device_.tables->last_tokens;
  context_ = {.backend = device_.backend,
              .stream = device_.stream,
              .attention = {device_.groups.front().attention.get()},
              .scratch = &scratch_};
  return {};
}

void HeadProposer::Forget(const RunnerSequence& seq) {
  progress_[static_cast<size_t>(seq.slot)] = {};
  states_.DropFrom(seq.slot, 0);
}

int32_t HeadProposer::Grade(const RunnerSequence& seq) {
  constexpr int32_t kUsual = 6;
  return progress_[static_cast<size_t>(seq.slot)].is_lost ? 0 : kUsual;
}

TensorView HeadProposer::HiddenRows(const Buffer& buffer, int64_t rows) const {
  return TensorView(buffer.data(), head_->dtype(), {rows, head_->hidden_size()});
}

Status HeadProposer::Observe(const TargetRows& rows) {
  ++num_observed_;
  Pass& prompts = *prompt_passes_[num_observed_ % 2];
  prompts.Clear();
  std::vector<TargetStates::Slice> slices;
  int32_t num_slices_rows = 0;
  for (const TargetRows::Part& part : rows.parts) {
    const RunnerSequence& seq = *part.seq;
    if (seq.sampling.speculative == Speculation::kOff) continue;
    Progress& progress = progress_[static_cast<size_t>(seq.slot)];
    if (progress.seq == nullptr) progress = {.seq = &seq, .num_computed = part.begin};
    states_.DropFrom(seq.slot, part.begin);
    const auto num_kept = static_cast<int32_t>(states_.Of(seq.slot).size());
    progress.is_lost |= part.begin != progress.num_computed + num_kept;
    // Rows of a prompt: the token behind each is known.
    const auto num_known = static_cast<int32_t>(seq.tokens.size()) - kLookahead - part.begin;
    const int32_t absorbed = num_kept > 0 ? 0 : std::clamp(num_known, 0, part.num_tokens);
    progress.is_lost |= part.num_tokens - absorbed > 1 + device_.limits.max_draft_tokens;
    if (progress.is_lost) continue;
    if (absorbed > 0) {
      prompts.input.Add(seq, part.begin, absorbed);
      for (int32_t i = 0; i < absorbed; ++i) prompts.sources.Push(part.first_row + i);
      progress.num_computed += absorbed;
    }
    if (absorbed == part.num_tokens) continue;
    slices.push_back({.slot = seq.slot,
                      .position = part.begin + absorbed,
                      .first_row = part.first_row + absorbed,
                      .num_rows = part.num_tokens - absorbed});
    num_slices_rows += slices.back().num_rows;
  }
  const TensorView planes = TargetStates::Planes(rows);
  if (prompts.input.num_tokens() > 0) Absorb(prompts, planes);
  if (states_.WouldOverwrite(num_slices_rows)) CatchUp();
  states_.Keep(planes, slices);
  return {};
}

/// Takes in all states whose tokens are known, but the last of each sequence, which its next draft
/// begins with.
void HeadProposer::CatchUp() {
  Pass& pass = *kept_passes_[num_observed_ % 2];
  pass.Clear();
  for (Progress& progress : progress_) {
    if (progress.seq == nullptr || progress.is_lost) continue;
    const std::span<const TargetStates::Row> kept = states_.Of(progress.seq->slot);
    if (kept.empty()) continue;
    const auto num_known = static_cast<int32_t>(progress.seq->tokens.size());
    const int32_t end = std::min(num_known - kLookahead - 1, kept.back().position + 1);
    if (end <= progress.num_computed) continue;
    AddKept(pass, progress, end);
    progress.num_computed = end;
    states_.DropBefore(progress.seq->slot, end);
  }
  if (pass.input.num_tokens() > 0) Absorb(pass, states_.planes());
}

/// Adds the rows from what has been computed to position `end`.
void HeadProposer::AddKept(Pass& pass, const Progress& progress, int32_t end) {
  pass.input.Add(*progress.seq, progress.num_computed, end - progress.num_computed);
  for (const TargetStates::Row& row : states_.Of(progress.seq->slot)) {
    if (row.position < end) pass.sources.Push(row.index);
  }
}

void HeadProposer::Upload(Pass& pass, ForwardBatch& batch) {
  batch = pass.input.View();
  batch.last_tokens = device_.tables->last_tokens;
  context_.attention[0]->Plan(batch.attention[0]);
  pass.arrays.Upload(*device_.backend, *device_.stream);
  pass.input.UploadTables(*device_.backend, *device_.stream);
}

/// From states among `planes`.
void HeadProposer::Absorb(Pass& pass, const TensorView& planes) {
  ForwardBatch batch;
  Upload(pass, batch);
  const int64_t n = pass.input.num_tokens();
  const TensorView gathered(gathered_.data(), head_->dtype(),
                            {n, num_planes() * head_->hidden_size()});
  TargetStates::Gather(device_, planes, pass.sources.device({n}), gathered);
  const TensorView hidden = HiddenRows(hidden_[0], n);
  scratch_.Reset();
  head_->Enter(context_, gathered, hidden);
  Run(pass, batch, hidden);
}

void HeadProposer::Run(Pass& pass, const ForwardBatch& batch, const TensorView& hidden) {
  const TensorView embedded = HiddenRows(embedded_, pass.input.num_tokens());
  scratch_.Reset();
  device_.target->Embed(context_, batch, embedded);
  head_->Forward(context_, batch, embedded, hidden);
}

Status HeadProposer::Propose(std::span<DraftTask> tasks) {
  int32_t num_rows = 0;
  for (DraftTask& task : tasks) {
    const Progress& progress = progress_[static_cast<size_t>(task.seq->slot)];
    const auto end = static_cast<int32_t>(task.seq->tokens.size()) - kLookahead;
    const std::span<const TargetStates::Row> kept = states_.Of(task.seq->slot);
    const bool is_ready = progress.seq != nullptr && !progress.is_lost && !kept.empty() &&
                          kept.front().position == progress.num_computed &&
                          kept.back().position >= end - 1;
    if (!is_ready) task.num_tokens = 0;
    if (task.num_tokens > 0) num_rows += end - progress.num_computed;
  }
  if (num_rows > PassLimits(true).max_tokens) {
    CatchUp();
    GALE_RETURN_IF_ERROR(device_.stream->Synchronize());  // its arrays are Observe's
  }
  std::vector<int32_t> last_rows(tasks.size());  // of each task in the pass before
  std::vector<int32_t> ids;
  for (int32_t draft = 0;; ++draft) {
    if (std::ranges::none_of(tasks, [&](const DraftTask& t) { return t.num_tokens > draft; })) {
      return {};
    }
    Pass& pass = *passes_[static_cast<size_t>(draft)];
    pass.Clear();
    for (size_t i = 0; i < tasks.size(); ++i) {
      if (tasks[i].num_tokens <= draft) continue;
      const RunnerSequence& seq = *tasks[i].seq;
      const int32_t end = seq.num_tokens() - kLookahead;
      if (draft == 0) {
        Progress& progress = progress_[static_cast<size_t>(seq.slot)];
        AddKept(pass, progress, end);
        progress.num_computed = end;
        states_.DropBefore(seq.slot, end);
      } else {
        ids.clear();
        for (int32_t j = 0; j < draft; ++j) ids.push_back(~device_.tables->DraftIndex(seq.slot, j));
        pass.input.Add(seq, end - 1 + draft, 1, ids);
        pass.sources.Push(last_rows[i]);
      }
      last_rows[i] = pass.input.num_tokens() - 1;
      pass.sampler.AddDraw(
          seq, {.hidden_row = last_rows[i], .place = device_.tables->DraftIndex(seq.slot, draft)},
          seq.num_tokens() + draft);
    }
    if (draft == 0) {
      Absorb(pass, states_.planes());
    } else {
      ForwardBatch batch;
      Upload(pass, batch);
      const int64_t n = pass.input.num_tokens();
      GatherRowsArgs gather;
      gather.x = HiddenRows(hidden_[(draft - 1) % 2],
                            passes_[static_cast<size_t>(draft - 1)]->input.num_tokens());
      gather.rows = pass.sources.device({n});
      gather.out = HiddenRows(hidden_[draft % 2], n);
      device_.backend->GatherRows(*device_.stream, gather);
      Run(pass, batch, gather.out);
    }
    Draw(pass);
  }
}

/// Draws with the number and the parameters that the target will draw with: where both are alike,
/// so are the tokens.
void HeadProposer::Draw(Pass& pass) {
  const int64_t num_draws = std::ssize(pass.sampler.draws());
  const int64_t tile = LogitsTile();
  for (int64_t begin = 0; begin < num_draws; begin += tile) {
    const int64_t n = std::min(tile, num_draws - begin);
    GatherRowsArgs gather;
    gather.x = HiddenRows(embedded_, pass.input.num_tokens());
    gather.rows = pass.sampler.DrawRows(begin, begin + n);
    gather.out = HiddenRows(draw_rows_, n);
    device_.backend->GatherRows(*device_.stream, gather);
    const TensorView logits(logits_.data(), DType::kF32, {n, VocabSize()});
    scratch_.Reset();
    if (head_->vocab_size() > 0) {
      head_->ComputeLogits(context_, gather.out, logits);
    } else {
      device_.target->ComputeLogits(context_, gather.out, logits);
    }
    pass.sampler.DrawTokens(*device_.backend, *device_.stream, logits, begin, draft_tables_,
                            head_->token_ids());
  }
}

}  // namespace gale
