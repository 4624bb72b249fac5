#include "runner/speculative/draft_model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "runner/speculative/create_pass.h"

namespace gale {
namespace {

/// Tokens of a sequence that a first pass takes in: the target's own one, and the draft's last
/// where all drafts were right.
constexpr int32_t kFirstTokens = 2;

/// Rows of logits at a time.
int LogitsTile(const Model& model, const StepLimits& limits) {
  const size_t row_bytes = static_cast<size_t>(model.vocab_size()) * sizeof(float);
  const auto most = static_cast<size_t>(std::max(limits.max_seqs, kFirstTokens));
  return static_cast<int>(std::clamp<size_t>(limits.logits_bytes / row_bytes, kFirstTokens, most));
}

size_t RowBytes(const Model& model) {
  return static_cast<size_t>(model.hidden_size()) * DTypeBytes(model.dtype());
}

size_t LogitsBytes(const Model& model, int rows) {
  return static_cast<size_t>(rows) * static_cast<size_t>(model.vocab_size()) * sizeof(float);
}

/// FNV-1a, of one token more.
uint64_t ExtendHash(uint64_t hash, TokenId token) {
  return (hash ^ static_cast<uint32_t>(token)) * 0x100000001B3U;
}

constexpr uint64_t kEmptyHash = 0xCBF29CE484222325U;

}  // namespace

DraftModel::Pass::Pass(StagedBlock& staged_arrays, StagedBlock& staged_tables,
                       const DraftDevice& device, const StepLimits& limits, int vocab_size)
    : input(staged_arrays, staged_tables, limits, KvGroupLayouts(device.groups, limits),
            static_cast<size_t>(device.first_group)),
      sampler(staged_arrays, staged_tables, limits, vocab_size) {}

void DraftModel::Pass::Clear() {
  input.Clear();
  sampler.Clear();
}

/// Rows of a pass; nothing of it is speculated on.
StepLimits DraftModel::PassLimits(const StepLimits& limits, bool first) {
  StepLimits pass = limits;
  pass.max_tokens =
      first ? std::max(limits.max_tokens, kFirstTokens * limits.max_seqs) : limits.max_seqs;
  pass.max_draft_tokens = 0;
  return pass;
}

size_t DraftModel::DeviceBytes(const StepLimits& limits) const {
  const StepLimits first = PassLimits(limits, true);
  const auto rows = static_cast<size_t>(first.max_tokens + limits.max_seqs);
  // Of the arrays only the tables of blocks are large.
  const size_t blocks = static_cast<size_t>(limits.max_model_len) / 8 * sizeof(int32_t);
  const size_t tables = static_cast<size_t>(limits.max_draft_tokens * limits.max_seqs) * blocks *
                        attention_groups().size();
  return model_->ScratchBytes(first.max_tokens) + rows * RowBytes(*model_) +
         LogitsBytes(*model_, LogitsTile(*model_, limits)) + tables;
}

Status DraftModel::Allocate(const DraftDevice& device) {
  device_ = device;
  const StepLimits& limits = device.limits;
  const StepLimits first = PassLimits(limits, true);
  const auto allocate = [&](Buffer& buffer, size_t bytes) -> Status {
    GALE_ASSIGN_OR_RETURN(buffer, device_.backend->Allocate(bytes, MemoryKind::kDevice));
    return {};
  };
  Buffer scratch;
  GALE_RETURN_IF_ERROR(allocate(scratch, model_->ScratchBytes(first.max_tokens)));
  scratch_ = ScratchArena(std::move(scratch));
  const auto max_seqs = static_cast<size_t>(limits.max_seqs);
  GALE_RETURN_IF_ERROR(
      allocate(hidden_, static_cast<size_t>(first.max_tokens) * RowBytes(*model_)));
  GALE_RETURN_IF_ERROR(allocate(draw_hidden_, max_seqs * RowBytes(*model_)));
  GALE_RETURN_IF_ERROR(allocate(logits_, LogitsBytes(*model_, LogitsTile(*model_, limits))));
  for (int i = 0; i < limits.max_draft_tokens; ++i) {
    GALE_ASSIGN_OR_RETURN(
        passes_.emplace_back(),
        CreatePass<Pass>(device_, PassLimits(limits, i == 0), model_->vocab_size()));
  }
  std::optional<DecoderDescription> decoder = model_->Describe();
  if (decoder && decoder->attention.numerics == Numerics::kFast) {
    decoder->attention.kv = device_.groups.front().spec.kv;
    GALE_ASSIGN_OR_RETURN(fused_, device_.backend->CreateFusedDecoder(*decoder));
  }
  progress_.resize(max_seqs);
  draft_tables_.last_tokens = device_.tables->last_tokens;
  context_ = {
      .backend = device_.backend, .stream = device_.stream, .attention = {}, .scratch = &scratch_};
  for (const KvGroupRuntime& group : device_.groups) {
    context_.attention.push_back(group.attention.get());
  }
  return {};
}

void DraftModel::Forget(const RunnerSequence& seq) {
  progress_[static_cast<size_t>(seq.slot)] = {};
}

/// Calls visit(block, hash) for the whole blocks before `end`, from where it last ended on, while
/// that returns true.
template <class Visit>
void DraftModel::HashBlocks(const RunnerSequence& seq, Progress& progress, int32_t end,
                            Visit visit) {
  const BlockList& table = seq.blocks[static_cast<size_t>(device_.first_group)];
  const int32_t block_tokens = device_.groups.front().block_tokens;
  while (progress.num_hashed + block_tokens <= end) {
    uint64_t hash = progress.hash;
    for (int32_t i = 0; i < block_tokens; ++i) {
      hash = ExtendHash(hash, seq.tokens[static_cast<size_t>(progress.num_hashed + i)]);
    }
    if (!visit(table[static_cast<size_t>(progress.num_hashed / block_tokens)], hash)) return;
    progress.hash = hash;
    progress.num_hashed += block_tokens;
  }
}

/// The target has dropped the drafts that were wrong. A sequence that is new begins with the cached
/// blocks in which the draft's own keys are those of its tokens.
DraftModel::Progress& DraftModel::ProgressOf(const RunnerSequence& seq) {
  Progress& progress = progress_[static_cast<size_t>(seq.slot)];
  if (!progress.is_known) {
    progress = {.is_known = true, .hash = kEmptyHash};
    HashBlocks(seq, progress, seq.num_cached, [this](BlockId block, uint64_t hash) {
      const auto known = block_texts_.find(block);
      return known != block_texts_.end() && known->second == hash;
    });
    progress.num_computed = progress.num_hashed;
  }
  progress.num_computed = std::min(progress.num_computed, seq.num_computed);
  HashBlocks(seq, progress, progress.num_computed, [this](BlockId block, uint64_t hash) {
    block_texts_[block] = hash;
    return true;
  });
  return progress;
}

/// Computes what no first pass has room for. Its chunks share one pass's arrays, and so are waited
/// for.
Status DraftModel::CatchUp(std::span<DraftTask> tasks) {
  Pass& pass = *passes_.front();
  const int32_t max_rows = PassLimits(device_.limits, true).max_tokens;
  for (const DraftTask& task : tasks) {
    Progress& progress = ProgressOf(*task.seq);
    const auto end = static_cast<int32_t>(task.seq->tokens.size()) - 1;
    if (end + 1 - progress.num_computed <= kFirstTokens) continue;
    while (progress.num_computed < end) {
      const int32_t rows = std::min(end - progress.num_computed, max_rows);
      pass.Clear();
      pass.input.Add(*task.seq, progress.num_computed, rows);
      Run(pass, BatchOf(pass));
      GALE_RETURN_IF_ERROR(device_.stream->Synchronize());
      progress.num_computed += rows;
    }
  }
  return {};
}

Status DraftModel::Propose(std::span<DraftTask> tasks) {
  GALE_RETURN_IF_ERROR(CatchUp(tasks));
  int32_t longest = 0;
  for (const DraftTask& task : tasks) longest = std::max(longest, task.num_tokens);
  for (int32_t draft = 0; draft < longest; ++draft) {
    Pass& pass = *passes_[static_cast<size_t>(draft)];
    pass.Clear();
    AddDraws(pass, tasks, draft);
    const ForwardBatch batch = BatchOf(pass);
    if (RunFused(pass, batch)) continue;
    Run(pass, batch);
    Draw(pass);
  }
  for (const DraftTask& task : tasks) {
    Progress& progress = progress_[static_cast<size_t>(task.seq->slot)];
    progress.num_computed = task.seq->num_tokens() + task.num_tokens - 1;
  }
  return {};
}

/// The rows that lead to one more draft of each sequence that wants it, drawn with the number and
/// the parameters that the target will draw with: where both are alike, so are the tokens.
void DraftModel::AddDraws(Pass& pass, std::span<DraftTask> tasks, int32_t draft) {
  std::vector<int32_t> ids;
  for (const DraftTask& task : tasks) {
    if (task.num_tokens <= draft) continue;
    const RunnerSequence& seq = *task.seq;
    const int32_t end = seq.num_tokens() + draft;
    const int32_t begin =
        draft == 0 ? progress_[static_cast<size_t>(seq.slot)].num_computed : end - 1;
    ids.clear();
    for (int32_t i = 0; i < draft; ++i) ids.push_back(~device_.tables->DraftIndex(seq.slot, i));
    pass.input.Add(seq, begin, end - begin, ids);
    pass.sampler.AddDraw(seq,
                         {.hidden_row = pass.input.num_tokens() - 1,
                          .place = device_.tables->DraftIndex(seq.slot, draft)},
                         end);
  }
}

ForwardBatch DraftModel::BatchOf(Pass& pass) const {
  ForwardBatch batch = pass.input.View();
  batch.last_tokens = device_.tables->last_tokens;
  return batch;
}

TensorView DraftModel::Logits(int64_t rows) const {
  return TensorView(logits_.data(), DType::kF32, {rows, model_->vocab_size()});
}

/// The whole pass as one device operation, where there is one for it and the rows to draw from are
/// the last ones, in order. False: not.
bool DraftModel::RunFused(Pass& pass, const ForwardBatch& batch) {
  const int64_t rows = pass.input.num_tokens();
  const int64_t draws = std::ssize(pass.sampler.draws());
  if (fused_ == nullptr || rows > LogitsTile(*model_, device_.limits) ||
      (rows != draws && draws > 1) || !fused_->Supports(batch.attention[0])) {
    return false;
  }
  pass.arrays.Upload(*device_.backend, *device_.stream);
  pass.input.UploadTables(*device_.backend, *device_.stream);
  fused_->Run(*device_.stream, {.token_ids = batch.token_ids,
                                .positions = batch.positions,
                                .attention = batch.attention.data(),
                                .cache = device_.groups.front().cache,
                                .logits = Logits(rows),
                                .last_tokens = batch.last_tokens});
  pass.sampler.DrawTokens(*device_.backend, *device_.stream, Logits(rows).Rows(rows - draws, rows),
                          0, draft_tables_);
  return true;
}

void DraftModel::Run(Pass& pass, const ForwardBatch& batch) {
  for (size_t g = 0; g < context_.attention.size(); ++g) {
    context_.attention[g]->Plan(batch.attention[g]);
  }
  pass.arrays.Upload(*device_.backend, *device_.stream);
  pass.input.UploadTables(*device_.backend, *device_.stream);
  const TensorView hidden(hidden_.data(), model_->dtype(),
                          {pass.input.num_tokens(), model_->hidden_size()});
  scratch_.Reset();
  model_->Embed(context_, batch, hidden);
  model_->Forward(context_, batch, hidden);
}

void DraftModel::Draw(Pass& pass) {
  const int64_t num_draws = std::ssize(pass.sampler.draws());
  const int64_t tile = LogitsTile(*model_, device_.limits);
  const TensorView hidden(hidden_.data(), model_->dtype(),
                          {pass.input.num_tokens(), model_->hidden_size()});
  for (int64_t begin = 0; begin < num_draws; begin += tile) {
    const int64_t n = std::min(tile, num_draws - begin);
    GatherRowsArgs gather;
    gather.x = hidden;
    gather.rows = pass.sampler.DrawRows(begin, begin + n);
    gather.out = TensorView(draw_hidden_.data(), model_->dtype(), {n, model_->hidden_size()});
    device_.backend->GatherRows(*device_.stream, gather);
    const TensorView logits = Logits(n);
    scratch_.Reset();
    model_->ComputeLogits(context_, gather.out, logits);
    pass.sampler.DrawTokens(*device_.backend, *device_.stream, logits, begin, draft_tables_);
  }
}

}  // namespace gale
