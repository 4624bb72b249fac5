#include "runner/model_runner.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fmt/format.h>

namespace gale {
namespace {

/// Steps of more tokens keep the device busy for longer than their launches take.
constexpr int kMaxGraphTokens = 512;

/// At least two: one of them may be copied.
int MaxLogitsRows(const Model& model, const StepLimits& limits) {
  const size_t row_bytes = static_cast<size_t>(model.vocab_size()) * sizeof(float);
  const auto most = static_cast<size_t>(std::max(limits.max_tokens, 2));
  return static_cast<int>(std::clamp<size_t>(limits.logits_bytes / row_bytes, 2, most));
}

size_t HiddenBytes(const Model& model, int rows) {
  return static_cast<size_t>(rows) * static_cast<size_t>(model.hidden_size()) *
         DTypeBytes(model.dtype());
}

size_t LogitsBytes(const Model& model, int rows) {
  return static_cast<size_t>(rows) * static_cast<size_t>(model.vocab_size()) * sizeof(float);
}

template <class Groups>
Groups OfModel(const Model& model, Groups groups) {
  return groups.first(model.attention_groups().size());
}

}  // namespace

ModelRunner::Step::Step(StagedBlock& staged_arrays, StagedBlock& staged_tables, const Model& model,
                        const StepLimits& limits, std::span<const KvGroupRuntime> groups)
    : input(staged_arrays, staged_tables, limits, KvGroupLayouts(OfModel(model, groups), limits)),
      sampler(staged_arrays, staged_tables, limits, model.vocab_size()) {}

Result<std::unique_ptr<ModelRunner::Step>> ModelRunner::Step::Create(
    Backend& backend, const Model& model, const StepLimits& limits,
    std::span<const KvGroupRuntime> groups) {
  StagedBlock arrays;
  StagedBlock tables;
  const Step measured(arrays, tables, model, limits, groups);
  GALE_ASSIGN_OR_RETURN(arrays, StagedBlock::Create(backend, arrays.bytes()));
  GALE_ASSIGN_OR_RETURN(tables, StagedBlock::Create(backend, tables.bytes()));
  auto step = std::make_unique<Step>(arrays, tables, model, limits, groups);
  step->arrays = std::move(arrays);
  step->tables = std::move(tables);
  GALE_RETURN_IF_ERROR(step->sampler.Allocate(backend));
  GALE_RETURN_IF_ERROR(step->drafts.Allocate(backend, limits));
  step->uploaded = backend.CreateEvent();
  step->drafting = backend.CreateEvent();
  step->begun = backend.CreateEvent();
  return step;
}

void ModelRunner::Step::Begin(const SchedulerOutput& plan) {
  GALE_CHECK(!in_flight);  // its arrays are still being read
  number = plan.step;
  in_flight = true;
  status = {};
  kind = StepKind::kLayers;
  ids.clear();
  for (const ScheduledSeq& scheduled : plan.seqs) ids.push_back(scheduled.id);
  input.Clear();
  sampler.Clear();
  pooled.Clear();
  drafts.Clear();
  parts.clear();
  propose_s = 0;
  sources.clear();
}

size_t ModelRunner::DeviceBytes(const Model& model, std::span<const KvGroupRuntime> groups,
                                const StepLimits& limits) {
  const int rows = MaxLogitsRows(model, limits);
  StagedBlock arrays;
  StagedBlock tables;
  const Step measured(arrays, tables, model, limits, groups);
  return model.ScratchBytes(limits.max_tokens) + HiddenBytes(model, limits.max_tokens + rows) +
         LogitsBytes(model, rows) + 2 * (arrays.bytes() + tables.bytes()) +
         SequenceTables::DeviceBytes(limits, model.vocab_size());
}

ModelRunner::ModelRunner(Backend& backend, Model& model, std::span<KvGroupRuntime> groups,
                         FusedDecoder* fused, const StepLimits& limits)
    : backend_(backend),
      model_(model),
      all_groups_(groups),
      groups_(OfModel(model, groups)),
      fused_(fused),
      limits_(limits),
      device_name_(backend.info().name),
      max_logits_rows_(MaxLogitsRows(model, limits)),
      stream_(backend.CreateStream()),
      copy_stream_(backend.CreateStream()),
      graphs_(backend, *stream_, std::min(limits.max_seqs, limits.max_tokens),
              [this](int rows, int slot) { EnqueueGraphStep(rows, slot); }),
      layer_graphs_(
          backend, *stream_, std::min(kMaxGraphTokens, limits.max_tokens),
          [this](int rows, int slot) { EnqueueGraphLayers(rows, ChunkSeqs(rows), slot); }) {}

Result<std::unique_ptr<ModelRunner>> ModelRunner::Create(Backend& backend, Model& model,
                                                         std::span<KvGroupRuntime> groups,
                                                         FusedDecoder* fused,
                                                         const StepLimits& limits) {
  std::unique_ptr<ModelRunner> runner(new ModelRunner(backend, model, groups, fused, limits));
  GALE_RETURN_IF_ERROR(runner->Allocate());
  return runner;
}

Status ModelRunner::Allocate() {
  const auto allocate = [&](Buffer& buffer, size_t bytes) -> Status {
    GALE_ASSIGN_OR_RETURN(buffer, backend_.Allocate(bytes, MemoryKind::kDevice));
    return {};
  };
  for (std::unique_ptr<Event>& end : ends_) end = backend_.CreateEvent();
  for (std::unique_ptr<Step>& step : steps_) {
    GALE_ASSIGN_OR_RETURN(step, Step::Create(backend_, model_, limits_, groups_));
  }
  Buffer scratch;
  GALE_RETURN_IF_ERROR(allocate(scratch, model_.ScratchBytes(limits_.max_tokens)));
  scratch_ = ScratchArena(std::move(scratch));
  GALE_RETURN_IF_ERROR(allocate(hidden_, HiddenBytes(model_, limits_.max_tokens)));
  GALE_RETURN_IF_ERROR(allocate(logits_hidden_, HiddenBytes(model_, max_logits_rows_)));
  GALE_RETURN_IF_ERROR(allocate(logits_, LogitsBytes(model_, max_logits_rows_)));
  GALE_RETURN_IF_ERROR(tables_.Allocate(backend_, limits_, model_.vocab_size()));
  for (int32_t slot = limits_.max_seqs - 1; slot >= 0; --slot) free_slots_.push_back(slot);

  context_.backend = &backend_;
  context_.stream = stream_.get();
  context_.scratch = &scratch_;
  for (const KvGroupRuntime& group : groups_) context_.attention.push_back(group.attention.get());
  return {};
}

void ModelRunner::BindPool(TensorView pool, TensorView host_pool) {
  pool_ = pool;
  host_pool_ = host_pool;
  for (KvGroupRuntime& group : all_groups_) {
    group.cache = {.blocks = pool, .block_tokens = group.block_tokens};
    // Rows stay a pool block apart.
    group.cache.blocks.dims[1] = static_cast<int64_t>(group.bytes_per_block);
    group.attention->BindCache(group.cache);
  }
}

Status ModelRunner::UseProposer(DraftProposer& proposer) {
  proposer_ = &proposer;
  if (proposer.observes()) fused_ = nullptr;
  const size_t captured_bytes =
      proposer.captured_layers().size() * HiddenBytes(model_, limits_.max_tokens);
  if (captured_bytes > 0) {
    GALE_ASSIGN_OR_RETURN(captured_, backend_.Allocate(captured_bytes, MemoryKind::kDevice));
  }
  return proposer.Allocate({.backend = &backend_,
                            .stream = stream_.get(),
                            .target = &model_,
                            .tables = &tables_,
                            .groups = all_groups_.subspan(groups_.size()),
                            .first_group = static_cast<int>(groups_.size()),
                            .limits = limits_});
}

void ModelRunner::Forward(const SchedulerOutput& plan) {
  Step& step = *steps_[plan.step % steps_.size()];
  step.Begin(plan);
  const Step& last = *steps_[(plan.step + 1) % steps_.size()];
  step.is_overlapped = last.in_flight && last.status;
  current_ = &step;
  for (const SeqId id : plan.finished) Forget(id);
  for (const SeqId id : plan.preempted) Forget(id);
  if (lost_) {
    step.status = tl::unexpected(*lost_);
    return;
  }
  Swap(plan);
  step.status = BuildBatch(plan, step);
  if (!step.status) return;
  Upload(step);
  // A block that is copied to may be one that has just been swapped out: behind Upload's wait.
  CopyBlocks(*stream_, plan.copies, pool_, pool_);
  if (step.kind == StepKind::kFused) RunFused(step);
  if (step.kind == StepKind::kLayers) RunLayers(step.batch);
  if (step.kind == StepKind::kGraph && !step.whole_graph) {
    layer_graphs_.Launch(step.graph_bucket, SlotOf(step));
  }
}

Status ModelRunner::BuildBatch(const SchedulerOutput& plan, Step& step) {
  for (const ScheduledSeq& scheduled : plan.seqs) GALE_RETURN_IF_ERROR(Learn(scheduled, step));
  GALE_RETURN_IF_ERROR(ProposeDrafts(plan, step));
  for (size_t i = 0; i < plan.seqs.size(); ++i) {
    const ScheduledSeq& scheduled = plan.seqs[i];
    RunnerSequence& seq = sequences_.at(scheduled.id);
    AddRows(scheduled, seq, i, step);
    if (scheduled.sample) ++seq.num_unread;
  }
  ChooseKind(step);
  return {};
}

/// Drafts begin with tokens that the host knows: their steps do not overlap others.
Status ModelRunner::ProposeDrafts(const SchedulerOutput& plan, Step& step) {
  for (size_t i = 0; i < plan.seqs.size(); ++i) {
    const ScheduledSeq& scheduled = plan.seqs[i];
    if (scheduled.draft.num_tokens == 0) continue;
    step.drafts.Add(i, sequences_.at(scheduled.id), scheduled.draft.num_tokens);
  }
  if (step.drafts.empty()) return {};
  GALE_CHECK(proposer_ != nullptr && !step.is_overlapped);
  const auto begin = std::chrono::steady_clock::now();
  stream_->Record(*step.drafting);
  GALE_RETURN_IF_ERROR(step.drafts.Propose(*proposer_, backend_, *stream_, tables_));
  step.propose_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return {};
}

void ModelRunner::ChooseKind(Step& step) {
  const int num_tokens = step.input.num_tokens();
  step.batch = step.input.View();
  step.all_drawn = std::ssize(step.sampler.draws()) == num_tokens;
  if (step.all_drawn && fused_ != nullptr && num_tokens <= LogitsTile(step) &&
      fused_->Supports(step.batch.attention[0])) {
    step.kind = StepKind::kFused;
  } else {
    ChooseGraph(step);
  }
  step.batch.last_tokens = tables_.last_tokens;
  step.batch.capture = Capture(step.batch.token_ids.dim(0));
}

void ModelRunner::ChooseGraph(Step& step) {
  const int num_tokens = step.input.num_tokens();
  step.whole_graph = false;
  step.graph_bucket = 0;
  int num_seqs = 0;
  if (step.all_drawn && num_tokens == step.input.num_seqs() && step.sampler.is_plain()) {
    step.graph_bucket = graphs_.FindBucket(num_tokens);
    step.whole_graph = step.graph_bucket > 0;
    num_seqs = step.graph_bucket;
  } else if (num_tokens > step.input.num_seqs() && step.input.num_seqs() < limits_.max_seqs) {
    step.graph_bucket = layer_graphs_.FindBucket(num_tokens);
    num_seqs = ChunkSeqs(step.graph_bucket);
  }
  if (step.graph_bucket == 0) return;
  step.kind = StepKind::kGraph;
  step.input.FillTo(step.graph_bucket, num_seqs);
  if (step.whole_graph) step.sampler.PadDrawsTo(step.graph_bucket);
  step.batch = step.input.View();
  for (AttentionBatch& attention : step.batch.attention) attention.fixed_launches = true;
}

/// Brings this rank's copy of the sequence up to the plan.
Status ModelRunner::Learn(const ScheduledSeq& scheduled, Step& step) {
  if (scheduled.first_time) {
    const NewSeqData& data = *scheduled.first_time;
    GALE_CHECK(!free_slots_.empty() && !sequences_.contains(scheduled.id));
    RunnerSequence& seq = sequences_[scheduled.id];
    seq.slot = free_slots_.back();
    free_slots_.pop_back();
    seq.tokens = data.tokens;
    seq.num_prompt = data.num_prompt;
    seq.num_computed = data.num_computed;
    seq.num_cached = data.num_computed;
    seq.blocks = scheduled.new_blocks;
    seq.blocks.resize(all_groups_.size());
    seq.sampling = data.sampling;
    seq.end_token_ids = data.end_token_ids;
    // Mirostat begins with twice its target (arXiv:2007.14966, algorithm 2).
    seq.mirostat_mu = data.mirostat_mu.value_or(2 * data.sampling.mirostat_tau);
    seq.sample_index = data.sample_index;
    tables_.Upload(backend_, *stream_, seq, step.sources);
    return {};
  }
  const auto found = sequences_.find(scheduled.id);
  if (found == sequences_.end()) {
    // The step that should have drawn its token failed, and this one was launched before that
    // was known.
    return MakeError(ErrorCode::kInternal,
                     fmt::format("step {}: sequence {} is not known to this rank; an earlier step "
                                 "of it failed",
                                 step.number, scheduled.id));
  }
  RunnerSequence& seq = found->second;
  if (scheduled.last_token) seq.tokens.back() = *scheduled.last_token;
  for (size_t g = 0; g < scheduled.new_blocks.size(); ++g) {
    seq.blocks[g].insert(seq.blocks[g].end(), scheduled.new_blocks[g].begin(),
                         scheduled.new_blocks[g].end());
  }
  return {};
}

void ModelRunner::Forget(SeqId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  if (proposer_ != nullptr) proposer_->Forget(found->second);
  free_slots_.push_back(found->second.slot);
  sequences_.erase(found);
}

/// Blocks that move between device and host are those of no step in flight, so that they may move
/// while it runs; this step waits for them as for what is uploaded.
void ModelRunner::Swap(const SchedulerOutput& plan) {
  CopyBlocks(*copy_stream_, plan.swap_out, host_pool_, pool_);
  CopyBlocks(*copy_stream_, plan.swap_in, pool_, host_pool_);
}

void ModelRunner::CopyBlocks(Stream& stream, const std::vector<BlockCopy>& copies,
                             const TensorView& to, const TensorView& from) {
  for (const BlockCopy& copy : copies) {
    const size_t bytes = all_groups_[static_cast<size_t>(copy.group)].bytes_per_block;
    backend_.Copy(stream, to.Rows(copy.dst, copy.dst + 1).data,
                  from.Rows(copy.src, copy.src + 1).data, bytes);
  }
}

/// Adds the positions of this sequence to the batch, and says which of its rows need logits.
void ModelRunner::AddRows(const ScheduledSeq& scheduled, RunnerSequence& seq, size_t index,
                          Step& step) {
  const int32_t first_row = step.input.num_tokens();
  const std::span<const int32_t> drafts = step.drafts.Ids(index);
  const auto num_drafts = static_cast<int32_t>(drafts.size());
  const int32_t begin = seq.num_computed;
  const int32_t end = begin + scheduled.num_tokens - scheduled.draft.num_tokens;
  if (scheduled.logits == LogitsRows::kAll) {
    for (int32_t position = begin + 1; position <= std::min(end, seq.num_prompt - 1); ++position) {
      step.sampler.AddScore({.seq = index,
                             .hidden_row = first_row + position - 1 - begin,
                             .target = seq.tokens[static_cast<size_t>(position)],
                             .num_top = seq.sampling.prompt_logprobs.value_or(0)});
    }
  }
  if (scheduled.num_pooled > 0) {
    step.pooled.Add(index, first_row + scheduled.num_tokens - scheduled.num_pooled,
                    scheduled.num_pooled);
  }
  if (scheduled.sample) {
    GALE_CHECK_EQ(end, seq.num_tokens());
    for (int32_t position = end; position <= end + num_drafts; ++position) {
      step.sampler.AddDraw(seq,
                           {.seq = index,
                            .hidden_row = first_row + position - 1 - begin,
                            .target = -1,
                            .num_top = seq.sampling.logprobs.value_or(-1)},
                           position);
    }
  }
  step.input.Add(seq, begin, end + num_drafts - begin, drafts);
  seq.num_computed = end + num_drafts;
  if (proposer_ != nullptr && proposer_->observes()) {
    step.parts.push_back({.seq = &seq,
                          .first_row = first_row,
                          .begin = begin,
                          .num_tokens = end + num_drafts - begin});
  }
}

/// What the step needs goes to the device while the step before still runs.
void ModelRunner::Upload(Step& step) {
  if (step.kind != StepKind::kFused) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      groups_[g].attention->Plan(step.batch.attention[g]);
    }
  }
  step.arrays.Upload(backend_, *copy_stream_);
  step.input.UploadTables(backend_, *copy_stream_);
  copy_stream_->Record(*step.uploaded);
  stream_->Wait(*step.uploaded);
  stream_->Record(*step.begun);
}

void ModelRunner::RunFused(const Step& step) {
  const ForwardBatch& batch = step.batch;
  fused_->Run(*stream_, {.token_ids = batch.token_ids,
                         .positions = batch.positions,
                         .attention = batch.attention.data(),
                         .cache = groups_[0].cache,
                         .logits = Logits(0, step.input.num_tokens()),
                         .last_tokens = batch.last_tokens});
}

void ModelRunner::RunLayers(const ForwardBatch& batch) {
  const TensorView hidden = HiddenRows(0, batch.token_ids.dim(0));
  scratch_.Reset();
  model_.Embed(context_, batch, hidden);
  model_.Forward(context_, batch, hidden);
}

void ModelRunner::EnqueueGraphLayers(int rows, int num_seqs, int slot) {
  ForwardBatch batch = steps_[static_cast<size_t>(slot)]->input.GraphView(rows, num_seqs);
  batch.last_tokens = tables_.last_tokens;
  batch.capture = Capture(rows);
  for (size_t g = 0; g < groups_.size(); ++g) groups_[g].attention->Plan(batch.attention[g]);
  RunLayers(batch);
}

/// A whole decode step, from token ids to token ids.
void ModelRunner::EnqueueGraphStep(int rows, int slot) {
  EnqueueGraphLayers(rows, rows, slot);
  Step& step = *steps_[static_cast<size_t>(slot)];
  for (int begin = 0; begin < rows; begin += max_logits_rows_) {
    const int end = std::min(rows, begin + max_logits_rows_);
    step.sampler.DrawTokens(backend_, *stream_, ComputeLogits(HiddenRows(begin, end)), begin,
                            tables_);
  }
}

void ModelRunner::Sample(const SamplingInputs& inputs) {
  Step& step = *current_;
  if (!step.status) return;
  // Graphs are captured without masks.
  const bool whole_graph = step.kind == StepKind::kGraph && step.whole_graph;
  if (whole_graph && !inputs.bitmasks.empty()) {
    step.kind = StepKind::kLayers;
    RunLayers(step.batch);
  } else if (whole_graph) {
    graphs_.Launch(step.graph_bucket, SlotOf(step));
  }
  if (!whole_graph || step.kind == StepKind::kLayers) {
    EnqueueDraws(step, inputs);
    EnqueueScores(step);
    step.status = step.pooled.Enqueue(backend_, *stream_, HiddenRows(0, step.input.num_tokens()));
  }
  if (step.status && !step.parts.empty()) step.status = ShowRows(step);
  stream_->Record(EndOf(step.number));
}

Status ModelRunner::ShowRows(const Step& step) {
  const int rows = step.input.num_tokens();
  return proposer_->Observe(
      {.parts = step.parts, .hidden = HiddenRows(0, rows), .captured = Capture(rows).states});
}

/// Where the layers that a proposer wants leave their outputs; empty when it wants none.
LayerCapture ModelRunner::Capture(int64_t rows) const {
  if (proposer_ == nullptr || proposer_->captured_layers().empty()) return {};
  const std::span<const int> layers = proposer_->captured_layers();
  const TensorView states(captured_.data(), model_.dtype(),
                          {std::ssize(layers), limits_.max_tokens, model_.hidden_size()});
  return {layers, states.Slice(1, 0, rows)};
}

TensorView ModelRunner::HiddenRows(int64_t begin, int64_t end) const {
  return TensorView(hidden_.data(), model_.dtype(), {limits_.max_tokens, model_.hidden_size()})
      .Rows(begin, end);
}

TensorView ModelRunner::Logits(int64_t begin, int64_t end) const {
  return TensorView(logits_.data(), DType::kF32, {max_logits_rows_, model_.vocab_size()})
      .Rows(begin, end);
}

/// Rows of logits that the step takes at a time: half of what there is when they are copied.
int ModelRunner::LogitsTile(const Step& step) const {
  return step.sampler.needs_copy() ? max_logits_rows_ / 2 : max_logits_rows_;
}

TensorView ModelRunner::Gather(const Step& step, const TensorView& rows) {
  GatherRowsArgs gather;
  gather.x = HiddenRows(0, step.input.num_tokens());
  gather.rows = rows;
  gather.out =
      TensorView(logits_hidden_.data(), model_.dtype(), {rows.dim(0), model_.hidden_size()});
  backend_.GatherRows(*stream_, gather);
  return gather.out;
}

TensorView ModelRunner::ComputeLogits(const TensorView& hidden_rows) {
  const TensorView logits = Logits(0, hidden_rows.dim(0));
  scratch_.Reset();
  model_.ComputeLogits(context_, hidden_rows, logits);
  return logits;
}

void ModelRunner::EnqueueDraws(Step& step, const SamplingInputs& inputs) {
  std::unordered_map<SeqId, const SamplingInputs::Bitmask*> masks;
  for (const SamplingInputs::Bitmask& mask : inputs.bitmasks) masks[mask.id] = &mask;
  std::vector<const SamplingInputs::Bitmask*> tile_masks;
  const int64_t num_draws = std::ssize(step.sampler.draws());
  const int tile = LogitsTile(step);
  for (int64_t begin = 0; begin < num_draws; begin += tile) {
    const int64_t end = std::min<int64_t>(num_draws, begin + tile);
    tile_masks.clear();
    for (int64_t i = begin; i < end && !masks.empty(); ++i) {
      const auto mask = masks.find(step.ids[step.sampler.draws()[static_cast<size_t>(i)].seq]);
      tile_masks.push_back(mask == masks.end() ? nullptr : mask->second);
    }
    const TensorView logits =
        step.kind == StepKind::kFused
            ? Logits(0, end)
            : ComputeLogits(step.all_drawn ? HiddenRows(begin, end)
                                           : Gather(step, step.sampler.DrawRows(begin, end)));
    const TensorView edited =
        step.sampler.needs_copy() ? Logits(tile, tile + logits.dim(0)) : TensorView();
    step.sampler.Draw(backend_, *stream_, logits, edited, begin, tile_masks, tables_);
  }
}

void ModelRunner::EnqueueScores(Step& step) {
  const int64_t num_scores = std::ssize(step.sampler.scores());
  for (int64_t begin = 0; begin < num_scores; begin += max_logits_rows_) {
    const int64_t end = std::min<int64_t>(num_scores, begin + max_logits_rows_);
    step.sampler.Score(backend_, *stream_,
                       ComputeLogits(Gather(step, step.sampler.ScoreRows(begin, end))), begin);
  }
}

Result<ModelRunnerOutput> ModelRunner::Collect(uint64_t number) {
  Step& step = *steps_[number % steps_.size()];
  GALE_CHECK(step.in_flight && step.number == number);
  const Status status = step.status ? WaitFor(step) : step.status;
  step.in_flight = false;
  if (!status) {
    for (const SeqId id : step.ids) Forget(id);
    return tl::unexpected(status.error());
  }
  return ReadOutput(step);
}

/// Looks again and again, for a wake-up by the driver takes longer than a short step; naps once the
/// step has proven long.
Status ModelRunner::WaitFor(const Step& step) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kNap = std::chrono::microseconds(50);
  constexpr auto kNapAfter = std::chrono::milliseconds(2);
  if (lost_) return tl::unexpected(*lost_);
  // Where the device is always done before the host, there is no waiting to make use of.
  constexpr int kOverdue = 16;
  CaptureMissed(kOverdue);
  const Clock::time_point begin = Clock::now();
  while (true) {
    GALE_ASSIGN_OR_RETURN(const bool passed, EndOf(step.number).HasPassed());
    if (passed) return {};
    if (CaptureMissed(1)) continue;
    const auto waited = Clock::now() - begin;
    if (std::chrono::duration<double>(waited).count() > limits_.timeout_s) break;
    if (waited > kNapAfter) std::this_thread::sleep_for(kNap);
  }
  lost_ = Error{ErrorCode::kDevice,
                fmt::format("device {}: step {} ({} sequences, {} tokens) has not ended within {} "
                            "s: the device hangs or is gone. Requests fail until this process is "
                            "started anew; the kernel log may tell why. If steps do take so long, "
                            "raise device_timeout_s",
                            device_name_, step.number, step.ids.size(), step.input.num_tokens(),
                            limits_.timeout_s)};
  return tl::unexpected(*lost_);
}

ModelRunnerOutput ModelRunner::ReadOutput(const Step& step) {
  ModelRunnerOutput output;
  output.step = step.number;
  ReadTimes(step, output);
  output.seqs.resize(step.ids.size());
  for (size_t i = 0; i < step.ids.size(); ++i) output.seqs[i].id = step.ids[i];
  const std::span<const LogitsRow> draws = step.sampler.draws();
  for (size_t begin = 0; begin < draws.size();) {
    const size_t seq = draws[begin].seq;
    const size_t end = begin + 1 + step.drafts.Ids(seq).size();
    ReadDraws(step, begin, end, output.seqs[seq]);
    begin = end;
  }
  step.pooled.ForEachSum(
      [&output](size_t seq, std::vector<float> sum) { output.seqs[seq].pooled = std::move(sum); });
  const std::span<const LogitsRow> scores = step.sampler.scores();
  for (size_t i = 0; i < scores.size(); ++i) {
    output.seqs[scores[i].seq].prompt_logprobs.push_back(step.sampler.Scored(i).logprobs);
  }
  return output;
}

/// Draws [begin, end) are of one sequence: those that follow right drafts are kept.
void ModelRunner::ReadDraws(const Step& step, size_t begin, size_t end, SeqOutput& output) {
  for (size_t i = begin; i < end; ++i) output.tokens.push_back(step.sampler.Drawn(i).token);
  output.num_drafted = static_cast<int32_t>(end - begin) - 1;
  const int32_t right = step.drafts.NumRight(step.sampler.draws()[begin].seq, output.tokens);
  output.tokens.resize(static_cast<size_t>(right) + 1);
  for (size_t i = begin; i < begin + output.tokens.size(); ++i) {
    SampledRow drawn = step.sampler.Drawn(i);
    if (step.sampler.draws()[i].num_top >= 0) output.logprobs.push_back(std::move(drawn.logprobs));
    output.mirostat_mu = drawn.mirostat_mu;
  }
  // The sequence may have ended since.
  const auto known = sequences_.find(output.id);
  if (known == sequences_.end()) return;
  RunnerSequence& seq = known->second;
  seq.tokens.insert(seq.tokens.end(), output.tokens.begin(), output.tokens.end());
  --seq.num_unread;
  seq.num_computed -= output.num_drafted - right;
  if (proposer_ != nullptr && seq.sampling.speculative != Speculation::kOff) {
    output.next_grade = proposer_->Grade(seq);
  }
}

void ModelRunner::ReadTimes(const Step& step, ModelRunnerOutput& output) {
  output.kind = step.kind;
  const bool has_drafts = !step.drafts.empty();
  output.device_s = EndOf(step.number).SecondsSince(has_drafts ? *step.drafting : *step.begun);
  // The device may have waited for the host, or have been behind it.
  if (has_drafts) {
    output.draft_s = std::max(step.propose_s, step.begun->SecondsSince(*step.drafting));
  }
  if (step.is_overlapped) output.idle_s = step.begun->SecondsSince(EndOf(step.number - 1));
}

}  // namespace gale
