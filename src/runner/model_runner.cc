#include "runner/model_runner.h"

#include <algorithm>

#include <fmt/format.h>

namespace gale {
namespace {

int MaxLogitsRows(const Model& model, const StepLimits& limits) {
  const size_t row_bytes = static_cast<size_t>(model.vocab_size()) * sizeof(float);
  return static_cast<int>(std::clamp<size_t>(limits.logits_bytes / row_bytes, 1,
                                             static_cast<size_t>(limits.max_tokens)));
}

size_t HiddenBytes(const Model& model, int rows) {
  return static_cast<size_t>(rows) * static_cast<size_t>(model.hidden_size()) *
         DTypeBytes(model.dtype());
}

size_t LogitsBytes(const Model& model, int rows) {
  return static_cast<size_t>(rows) * static_cast<size_t>(model.vocab_size()) * sizeof(float);
}

}  // namespace

size_t ModelRunner::DeviceBytes(const Model& model, const StepLimits& limits) {
  const int rows = MaxLogitsRows(model, limits);
  return model.ScratchBytes(limits.max_tokens) + HiddenBytes(model, limits.max_tokens + rows) +
         LogitsBytes(model, rows) +
         static_cast<size_t>(rows) * Sampler::BytesPerRow(model.vocab_size());
}

ModelRunner::ModelRunner(Backend& backend, Model& model, std::span<KvGroupRuntime> groups)
    : backend_(backend), model_(model), groups_(groups) {}

Result<std::unique_ptr<ModelRunner>> ModelRunner::Create(Backend& backend, Model& model,
                                                         std::span<KvGroupRuntime> groups,
                                                         const StepLimits& limits) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner(backend, model, groups));
  const int rows = MaxLogitsRows(model, limits);
  std::vector<int> block_tokens;
  for (const KvGroupRuntime& group : groups) block_tokens.push_back(group.block_tokens);

  runner->stream_ = backend.CreateStream();
  GALE_ASSIGN_OR_RETURN(runner->batch_, InputBatch::Create(backend, limits, block_tokens));
  GALE_ASSIGN_OR_RETURN(runner->sampler_, Sampler::Create(backend, rows, model.vocab_size()));
  runner->max_logits_rows_ = rows;
  GALE_ASSIGN_OR_RETURN(runner->logits_rows_,
                        StagedArray<int32_t>::Create(backend, static_cast<size_t>(rows)));
  const auto allocate = [&](Buffer& buffer, size_t bytes) -> Status {
    GALE_ASSIGN_OR_RETURN(buffer, backend.Allocate(bytes, MemoryKind::kDevice));
    return {};
  };
  Buffer scratch;
  GALE_RETURN_IF_ERROR(allocate(scratch, model.ScratchBytes(limits.max_tokens)));
  runner->scratch_ = ScratchArena(std::move(scratch));
  GALE_RETURN_IF_ERROR(allocate(runner->hidden_, HiddenBytes(model, limits.max_tokens)));
  GALE_RETURN_IF_ERROR(allocate(runner->logits_hidden_, HiddenBytes(model, rows)));
  GALE_RETURN_IF_ERROR(allocate(runner->logits_, LogitsBytes(model, rows)));

  ForwardContext& context = runner->context_;
  context.backend = &backend;
  context.stream = runner->stream_.get();
  context.scratch = &runner->scratch_;
  for (const KvGroupRuntime& group : groups) context.attention.push_back(group.attention.get());
  return runner;
}

Status ModelRunner::Forward(const SchedulerOutput& plan) {
  GALE_CHECK(plan.swap_out.empty() && plan.swap_in.empty());  // no host blocks on this rank
  for (const SeqId id : plan.finished) sequences_.erase(id);
  for (const SeqId id : plan.preempted) sequences_.erase(id);
  CopyBlocks(plan.copies);

  step_ = plan.step;
  step_ids_.clear();
  step_seqs_.clear();
  draw_rows_.clear();
  score_rows_.clear();
  batch_.Clear();
  for (const ScheduledSeq& scheduled : plan.seqs) step_ids_.push_back(scheduled.id);
  for (const ScheduledSeq& scheduled : plan.seqs) {
    if (Status learned = Learn(scheduled); !learned) {
      ForgetStep();
      return learned;
    }
    RunnerSequence& seq = sequences_.at(scheduled.id);
    AddRows(scheduled, seq, step_seqs_.size());
    batch_.Add(seq, scheduled.num_tokens);
    seq.num_computed += scheduled.num_tokens;
    step_seqs_.push_back(&seq);
  }
  if (!plan.seqs.empty()) RunLayers();
  return {};
}

/// Brings this rank's copy of the sequence up to the plan.
Status ModelRunner::Learn(const ScheduledSeq& scheduled) {
  GALE_CHECK_EQ(scheduled.draft.num_tokens, 0);
  if (scheduled.first_time) {
    const NewSeqData& data = *scheduled.first_time;
    RunnerSequence& seq = sequences_[scheduled.id];
    seq.tokens = data.tokens;
    seq.num_prompt = data.num_prompt;
    seq.num_computed = data.num_computed;
    seq.blocks = scheduled.new_blocks;
    seq.blocks.resize(groups_.size());
    seq.sampling = data.sampling;
    seq.sample_index = data.sample_index;
    return {};
  }
  const auto found = sequences_.find(scheduled.id);
  if (found == sequences_.end()) {
    // The step that should have drawn its token failed, and this one was launched before that
    // was known.
    return MakeError(ErrorCode::kInternal,
                     fmt::format("step {}: sequence {} is not known to this rank; an earlier step "
                                 "of it failed",
                                 step_, scheduled.id));
  }
  RunnerSequence& seq = found->second;
  for (size_t g = 0; g < scheduled.new_blocks.size(); ++g) {
    seq.blocks[g].insert(seq.blocks[g].end(), scheduled.new_blocks[g].begin(),
                         scheduled.new_blocks[g].end());
  }
  return {};
}

void ModelRunner::CopyBlocks(const std::vector<BlockCopy>& copies) {
  for (const BlockCopy& copy : copies) {
    const size_t bytes = groups_[static_cast<size_t>(copy.group)].bytes_per_block;
    backend_.Copy(*stream_, pool_.Rows(copy.dst, copy.dst + 1).data,
                  pool_.Rows(copy.src, copy.src + 1).data, bytes);
  }
}

/// Which rows of this sequence need logits; called before its positions are added to the batch.
void ModelRunner::AddRows(const ScheduledSeq& scheduled, const RunnerSequence& seq, size_t index) {
  const int32_t first_row = batch_.num_tokens();
  const int32_t begin = seq.num_computed;
  const int32_t end = begin + scheduled.num_tokens;
  if (scheduled.logits == LogitsRows::kAll) {
    for (int32_t position = begin + 1; position <= std::min(end, seq.num_prompt - 1); ++position) {
      score_rows_.push_back({.seq = index,
                             .hidden_row = first_row + position - 1 - begin,
                             .position = position,
                             .target = seq.tokens[static_cast<size_t>(position)]});
    }
  }
  if (scheduled.sample) {
    GALE_CHECK_EQ(static_cast<size_t>(end), seq.tokens.size());
    draw_rows_.push_back(
        {.seq = index, .hidden_row = first_row + end - 1 - begin, .position = end, .target = -1});
  }
}

void ModelRunner::RunLayers() {
  const ForwardBatch batch = batch_.Upload(backend_, *stream_);
  for (size_t g = 0; g < groups_.size(); ++g) {
    groups_[g].attention->Plan(*stream_, batch.attention[g]);
  }
  const TensorView hidden(hidden_.data(), model_.dtype(),
                          {batch_.num_tokens(), model_.hidden_size()});
  scratch_.Reset();
  model_.Embed(context_, batch, hidden);
  model_.Forward(context_, batch, hidden);
}

TensorView ModelRunner::ComputeLogits(std::span<const LogitsRow> rows) {
  const auto n = static_cast<int64_t>(rows.size());
  logits_rows_.Clear();
  for (const LogitsRow& row : rows) logits_rows_.Push(row.hidden_row);

  GatherRowsArgs gather;
  gather.x =
      TensorView(hidden_.data(), model_.dtype(), {batch_.num_tokens(), model_.hidden_size()});
  gather.rows = logits_rows_.Upload(backend_, *stream_, {n});
  gather.out = TensorView(logits_hidden_.data(), model_.dtype(), {n, model_.hidden_size()});
  backend_.GatherRows(*stream_, gather);

  const TensorView logits(logits_.data(), DType::kF32, {n, model_.vocab_size()});
  scratch_.Reset();
  model_.ComputeLogits(context_, gather.out, logits);
  return logits;
}

Result<ModelRunnerOutput> ModelRunner::Sample(const SamplingInputs& inputs) {
  ModelRunnerOutput output;
  output.step = step_;
  output.seqs.resize(step_ids_.size());
  for (size_t i = 0; i < step_ids_.size(); ++i) output.seqs[i].id = step_ids_[i];

  Status status = DrawTokens(inputs, output);
  if (status) status = ScorePrompts(output);
  // Also of a step without logits: the staging arrays may be refilled only behind this.
  if (status) status = stream_->Synchronize();
  if (!status) {
    ForgetStep();
    return tl::unexpected(status.error());
  }
  return output;
}

Status ModelRunner::DrawTokens(const SamplingInputs& inputs, ModelRunnerOutput& output) {
  std::unordered_map<SeqId, const SamplingInputs::Bitmask*> masks;
  for (const SamplingInputs::Bitmask& mask : inputs.bitmasks) masks[mask.id] = &mask;

  std::span<const LogitsRow> rest = draw_rows_;
  while (!rest.empty()) {
    const auto tile = rest.first(std::min<size_t>(rest.size(), max_logits_rows_));
    rest = rest.subspan(tile.size());
    std::vector<const SamplingInputs::Bitmask*> tile_masks;
    for (const LogitsRow& row : tile) {
      const auto mask = masks.find(step_ids_[row.seq]);
      tile_masks.push_back(mask == masks.end() ? nullptr : mask->second);
    }
    GALE_ASSIGN_OR_RETURN(
        std::vector<SampledRow> drawn,
        sampler_.Draw(*stream_, ComputeLogits(tile), tile, SequencesOf(tile), tile_masks));
    for (size_t i = 0; i < tile.size(); ++i) {
      SeqOutput& seq = output.seqs[tile[i].seq];
      RunnerSequence& state = *step_seqs_[tile[i].seq];
      state.tokens.push_back(drawn[i].token);
      seq.tokens.push_back(drawn[i].token);
      if (state.sampling.logprobs) seq.logprobs.push_back(std::move(drawn[i].logprobs));
    }
  }
  return {};
}

Status ModelRunner::ScorePrompts(ModelRunnerOutput& output) {
  std::span<const LogitsRow> rest = score_rows_;
  while (!rest.empty()) {
    const auto tile = rest.first(std::min<size_t>(rest.size(), max_logits_rows_));
    rest = rest.subspan(tile.size());
    GALE_ASSIGN_OR_RETURN(std::vector<SampledRow> scored,
                          sampler_.Score(*stream_, ComputeLogits(tile), tile, SequencesOf(tile)));
    for (size_t i = 0; i < tile.size(); ++i) {
      output.seqs[tile[i].seq].prompt_logprobs.push_back(std::move(scored[i].logprobs));
    }
  }
  return {};
}

std::vector<const RunnerSequence*> ModelRunner::SequencesOf(std::span<const LogitsRow> rows) const {
  std::vector<const RunnerSequence*> seqs;
  for (const LogitsRow& row : rows) seqs.push_back(step_seqs_[row.seq]);
  return seqs;
}

void ModelRunner::ForgetStep() {
  for (const SeqId id : step_ids_) sequences_.erase(id);
  step_ids_.clear();
  step_seqs_.clear();
  draw_rows_.clear();
  score_rows_.clear();
}

}  // namespace gale
