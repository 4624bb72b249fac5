#include "runner/sampler.h"

#include <algorithm>
#include <optional>

#include "base/rng.h"

namespace gale {
namespace {

constexpr int kMaxTop = 20;  // SamplingParams::Validate's bound on `logprobs`

bool UsesRareFilters(const SamplingParams& sampling) {
  return sampling.top_n_sigma > 0 || sampling.typical_p < 1 || sampling.xtc_probability > 0 ||
         sampling.mirostat != 0;
}

int64_t MaskWords(int vocab_size) { return (vocab_size + 31) / 32; }

/// Rows of kMaxTop elements, `top` of them used.
TensorView TopView(const Buffer& buffer, DType dtype, int64_t first, int64_t rows, int top) {
  auto* data = static_cast<char*>(buffer.data()) + first * kMaxTop * int64_t{4};
  TensorView view(data, dtype, {rows, kMaxTop});
  view.dims[1] = top;
  return view;
}

}  // namespace

Sampler::Sampler(StagedBlock& arrays, StagedBlock& masks, const StepLimits& limits, int vocab_size)
    : vocab_size_(vocab_size),
      max_draws_(static_cast<size_t>(
          std::min(limits.max_seqs * (1 + limits.max_draft_tokens), limits.max_tokens))),
      max_rows_(static_cast<size_t>(limits.max_tokens)) {
  draw_rows_ = arrays.Take<int32_t>(max_draws_);
  temperature_ = arrays.Take<float>(max_draws_);
  top_k_ = arrays.Take<int32_t>(max_draws_);
  top_p_ = arrays.Take<float>(max_draws_);
  min_p_ = arrays.Take<float>(max_draws_);
  seed_ = arrays.Take<uint64_t>(max_draws_);
  counter_ = arrays.Take<uint64_t>(2 * max_draws_);
  slots_ = arrays.Take<int32_t>(max_draws_);
  edit_slots_ = arrays.Take<int32_t>(max_draws_);
  lengths_ = arrays.Take<int32_t>(max_draws_);
  for (StagedArray<float>* filter : {&top_n_sigma_, &typical_p_, &xtc_probability_, &xtc_threshold_,
                                     &mirostat_tau_, &mirostat_eta_}) {
    *filter = arrays.Take<float>(max_draws_);
  }
  score_rows_ = arrays.Take<int32_t>(max_rows_);
  targets_ = arrays.Take<int32_t>(max_rows_);
  bitmask_ = masks.Take<int32_t>(max_draws_ * static_cast<size_t>(MaskWords(vocab_size)));
}

Status Sampler::Allocate(Backend& backend) {
  const auto allocate = [&](Buffer& buffer, size_t elements) -> Status {
    GALE_ASSIGN_OR_RETURN(buffer,
                          backend.Allocate(elements * sizeof(int32_t), MemoryKind::kPinnedHost));
    return {};
  };
  GALE_RETURN_IF_ERROR(allocate(tokens_, max_draws_));
  GALE_RETURN_IF_ERROR(allocate(mu_, max_draws_));
  GALE_RETURN_IF_ERROR(allocate(chosen_, max_rows_));
  GALE_RETURN_IF_ERROR(allocate(top_ids_, max_rows_ * kMaxTop));
  return allocate(top_logprobs_, max_rows_ * kMaxTop);
}

void Sampler::Clear() {
  draws_.clear();
  scores_.clear();
  draw_top_ = -1;
  score_top_ = -1;
  has_edits_ = false;
  has_rare_filters_ = false;
  draw_rows_.Clear();
  temperature_.Clear();
  top_k_.Clear();
  top_p_.Clear();
  min_p_.Clear();
  seed_.Clear();
  counter_.Clear();
  slots_.Clear();
  edit_slots_.Clear();
  lengths_.Clear();
  for (StagedArray<float>* filter : {&top_n_sigma_, &typical_p_, &xtc_probability_, &xtc_threshold_,
                                     &mirostat_tau_, &mirostat_eta_}) {
    filter->Clear();
  }
  score_rows_.Clear();
  targets_.Clear();
  bitmask_.Clear();
}

void Sampler::AddDraw(const RunnerSequence& seq, const LogitsRow& row, int32_t position) {
  const SamplingParams& sampling = seq.sampling;
  draws_.push_back(row);
  draw_top_ = std::max(draw_top_, std::min(row.num_top, vocab_size_));
  draw_rows_.Push(row.hidden_row);
  temperature_.Push(sampling.temperature);
  top_k_.Push(sampling.top_k);
  top_p_.Push(sampling.top_p);
  min_p_.Push(sampling.min_p);
  seed_.Push(sampling.seed.value_or(0));
  counter_.Push(static_cast<uint64_t>(position));
  counter_.Push(RandomCounterHigh(static_cast<uint32_t>(seq.sample_index), RandomStream::kSample));
  slots_.Push(row.place >= 0 ? row.place : seq.slot);
  edit_slots_.Push(EditsLogits(seq) ? seq.slot : -1);
  lengths_.Push(position);
  top_n_sigma_.Push(sampling.top_n_sigma);
  typical_p_.Push(sampling.typical_p);
  xtc_probability_.Push(sampling.xtc_probability);
  xtc_threshold_.Push(sampling.xtc_threshold);
  mirostat_tau_.Push(sampling.mirostat != 0 ? sampling.mirostat_tau : 0);
  mirostat_eta_.Push(sampling.mirostat_eta);
  has_edits_ |= EditsLogits(seq);
  has_rare_filters_ |= UsesRareFilters(sampling);
  draws_.back().reports_mu = sampling.mirostat != 0;
}

void Sampler::AddScore(const LogitsRow& row) {
  scores_.push_back(row);
  score_top_ = std::max(score_top_, std::min(row.num_top, vocab_size_));
  score_rows_.Push(row.hidden_row);
  targets_.Push(row.target);
}

void Sampler::PadDrawsTo(int num_rows) {
  while (std::ssize(draw_rows_.host()) < num_rows) {
    draw_rows_.Push(static_cast<int32_t>(draw_rows_.size()));
    temperature_.Push(0);
    top_k_.Push(0);
    top_p_.Push(1);
    min_p_.Push(0);
    seed_.Push(0);
    counter_.Push(0);
    counter_.Push(0);
    slots_.Push(-1);
  }
}

SampleArgs Sampler::BaseArgs(const TensorView& logits, int64_t begin,
                             const SequenceTables& tables) const {
  const int64_t n = logits.dim(0);
  SampleArgs args;
  args.logits = logits;
  args.temperature = temperature_.device({n}, begin);
  args.top_k = top_k_.device({n}, begin);
  args.top_p = top_p_.device({n}, begin);
  args.min_p = min_p_.device({n}, begin);
  args.seed = seed_.device({n}, begin);
  args.counter = counter_.device({n, 2}, 2 * begin);
  args.out = Tokens(begin, n);
  args.slots = slots_.device({n}, begin);
  args.last_tokens = tables.last_tokens;
  args.history = tables.history;
  // Behind the slots' own come the drafts.
  if (args.history) args.last_tokens = args.last_tokens.Slice(0, 0, args.history.dim(0));
  return args;
}

RareFilters Sampler::Rare(int64_t begin, int64_t n, const SequenceTables& tables) const {
  return {.top_n_sigma = top_n_sigma_.device({n}, begin),
          .typical_p = typical_p_.device({n}, begin),
          .xtc_probability = xtc_probability_.device({n}, begin),
          .xtc_threshold = xtc_threshold_.device({n}, begin),
          .mirostat_tau = mirostat_tau_.device({n}, begin),
          .mirostat_eta = mirostat_eta_.device({n}, begin),
          .mirostat_mu = tables.mirostat_mu,
          .mu_out = TensorView(static_cast<float*>(mu_.data()) + begin, DType::kF32, {n})};
}

void Sampler::DrawTokens(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin,
                         const SequenceTables& tables, const TensorView& token_ids) const {
  SampleArgs args = BaseArgs(logits, begin, tables);
  args.token_ids = token_ids;
  backend.Sample(stream, args);
}

void Sampler::Edit(Backend& backend, Stream& stream, const TensorView& logits,
                   const TensorView& out, int64_t begin, const SequenceTables& tables) const {
  const int64_t n = logits.dim(0);
  backend.EditLogits(stream, {.logits = logits,
                              .slots = edit_slots_.device({n}, begin),
                              .lengths = lengths_.device({n}, begin),
                              .history = tables.history,
                              .edits = tables.edits,
                              .allowed = tables.allowed,
                              .out = out});
}

void Sampler::Draw(Backend& backend, Stream& stream, const TensorView& logits,
                   const TensorView& edited, int64_t begin,
                   std::span<const SamplingInputs::Bitmask* const> masks,
                   const SequenceTables& tables) {
  SampleArgs args = BaseArgs(logits, begin, tables);
  if (has_edits_) {
    args.logits = needs_copy() ? edited : logits;
    Edit(backend, stream, logits, args.logits, begin, tables);
  }
  args.bitmask = UploadMasks(backend, stream, masks);
  if (has_rare_filters_) args.rare = Rare(begin, logits.dim(0), tables);
  backend.Sample(stream, args);
  if (draw_top_ < 0) return;
  EnqueueLogprobs(backend, stream, logits, Tokens(begin, logits.dim(0)), begin, draw_top_);
}

void Sampler::Score(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin) {
  EnqueueLogprobs(backend, stream, logits, targets_.device({logits.dim(0)}, begin),
                  std::ssize(draws_) + begin, score_top_);
}

TensorView Sampler::UploadMasks(Backend& backend, Stream& stream,
                                std::span<const SamplingInputs::Bitmask* const> masks) {
  if (std::ranges::all_of(masks, [](const auto* mask) { return mask == nullptr; })) return {};
  const int64_t words = MaskWords(vocab_size_);
  const auto first = static_cast<int64_t>(bitmask_.size());
  for (const SamplingInputs::Bitmask* mask : masks) {
    const std::span<int32_t> row = bitmask_.Extend(static_cast<size_t>(words));
    if (mask == nullptr) {
      std::ranges::fill(row, -1);  // all allowed
    } else {
      GALE_CHECK_EQ(mask->words.size(), row.size());
      std::ranges::copy(mask->words, row.begin());
    }
  }
  bitmask_.Upload(backend, stream);
  return bitmask_.device({std::ssize(masks), words}, first);
}

void Sampler::EnqueueLogprobs(Backend& backend, Stream& stream, const TensorView& logits,
                              const TensorView& tokens, int64_t first_result, int top) {
  const int64_t n = logits.dim(0);
  LogprobsArgs args;
  args.logits = logits;
  args.tokens = tokens;
  args.chosen = TensorView(static_cast<float*>(chosen_.data()) + first_result, DType::kF32, {n});
  if (top > 0) {
    args.top_ids = TopView(top_ids_, DType::kI32, first_result, n, top);
    args.top_logprobs = TopView(top_logprobs_, DType::kF32, first_result, n, top);
  }
  backend.Logprobs(stream, args);
}

SampledRow Sampler::Drawn(size_t draw) const {
  SampledRow row;
  row.token = static_cast<const int32_t*>(tokens_.data())[draw];
  const int num_top = draws_[draw].num_top;
  if (num_top >= 0) row.logprobs = ReadLogprobs(draw, row.token, num_top);
  if (draws_[draw].reports_mu) row.mirostat_mu = static_cast<const float*>(mu_.data())[draw];
  return row;
}

SampledRow Sampler::Scored(size_t score) const {
  const LogitsRow& row = scores_[score];
  return {row.target, ReadLogprobs(draws_.size() + score, row.target, row.num_top)};
}

PositionLogprobs Sampler::ReadLogprobs(size_t result, TokenId token, int num_top) const {
  PositionLogprobs logprobs;
  logprobs.chosen = {token, static_cast<const float*>(chosen_.data())[result]};
  const size_t first = result * kMaxTop;
  for (size_t i = first; i < first + static_cast<size_t>(std::min(num_top, vocab_size_)); ++i) {
    logprobs.top.push_back({static_cast<const int32_t*>(top_ids_.data())[i],
                            static_cast<const float*>(top_logprobs_.data())[i]});
  }
  return logprobs;
}

}  // namespace gale
