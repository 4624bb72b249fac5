#include "runner/sampler.h"

#include <algorithm>
#include <optional>

#include "base/rng.h"

namespace gale {
namespace {

constexpr int kMaxTop = 20;  // SamplingParams::Validate's bound on `logprobs`

int64_t MaskWords(int vocab_size) { return (vocab_size + 31) / 32; }

/// How many alternatives to find: the most that any row wants; -1 = none wants log-probabilities.
int MaxTop(std::span<const RunnerSequence* const> seqs, std::optional<int> SamplingParams::* wanted,
           int vocab_size) {
  int top = -1;
  for (const RunnerSequence* seq : seqs) top = std::max(top, (seq->sampling.*wanted).value_or(-1));
  return std::min(top, vocab_size);
}

}  // namespace

size_t Sampler::BytesPerRow(int vocab_size) {
  const size_t raw = static_cast<size_t>(vocab_size) * sizeof(float);
  const size_t mask = static_cast<size_t>(MaskWords(vocab_size)) * sizeof(int32_t);
  return raw + 2 * mask;
}

Result<Sampler> Sampler::Create(Backend& backend, int max_rows, int vocab_size) {
  const auto rows = static_cast<size_t>(max_rows);
  const size_t words = rows * static_cast<size_t>(MaskWords(vocab_size));
  const size_t logits_bytes = rows * static_cast<size_t>(vocab_size) * sizeof(float);
  Sampler sampler;
  sampler.backend_ = &backend;
  sampler.vocab_size_ = vocab_size;
  GALE_ASSIGN_OR_RETURN(sampler.temperature_, StagedArray<float>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.top_k_, StagedArray<int32_t>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.top_p_, StagedArray<float>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.min_p_, StagedArray<float>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.seed_, StagedArray<uint64_t>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.counter_, StagedArray<uint64_t>::Create(backend, rows * 2));
  GALE_ASSIGN_OR_RETURN(sampler.bitmask_, StagedArray<int32_t>::Create(backend, words));
  GALE_ASSIGN_OR_RETURN(sampler.tokens_, StagedArray<int32_t>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.chosen_, StagedArray<float>::Create(backend, rows));
  GALE_ASSIGN_OR_RETURN(sampler.top_ids_, StagedArray<int32_t>::Create(backend, rows * kMaxTop));
  GALE_ASSIGN_OR_RETURN(sampler.top_logprobs_, StagedArray<float>::Create(backend, rows * kMaxTop));
  GALE_ASSIGN_OR_RETURN(sampler.raw_logits_, backend.Allocate(logits_bytes, MemoryKind::kDevice));
  return sampler;
}

Result<std::vector<SampledRow>> Sampler::Draw(
    Stream& stream, TensorView logits, std::span<const LogitsRow> rows,
    std::span<const RunnerSequence* const> seqs,
    std::span<const SamplingInputs::Bitmask* const> masks) {
  const auto n = static_cast<int64_t>(rows.size());
  const int top = MaxTop(seqs, &SamplingParams::logprobs, vocab_size_);
  TensorView raw = logits;
  if (top >= 0) {
    raw.data = raw_logits_.data();
    backend_->Copy(stream, raw.data, logits.data, logits.Bytes());
  }

  FillParameters(rows, seqs);
  SampleArgs args;
  args.logits = logits;
  args.temperature = temperature_.Upload(*backend_, stream, {n});
  args.top_k = top_k_.Upload(*backend_, stream, {n});
  args.top_p = top_p_.Upload(*backend_, stream, {n});
  args.min_p = min_p_.Upload(*backend_, stream, {n});
  args.seed = seed_.Upload(*backend_, stream, {n});
  args.counter = counter_.Upload(*backend_, stream, {n, 2});
  args.bitmask = UploadMasks(stream, masks);
  args.out = tokens_.device({n});
  backend_->Sample(stream, args);
  if (top >= 0) EnqueueLogprobs(stream, raw, n, top);
  tokens_.Download(*backend_, stream, rows.size());
  GALE_RETURN_IF_ERROR(stream.Synchronize());

  std::vector<SampledRow> sampled(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    sampled[i].token = tokens_.host()[i];
    if (const std::optional<int> wanted = seqs[i]->sampling.logprobs) {
      sampled[i].logprobs = ReadLogprobs(i, sampled[i].token, *wanted, top);
    }
  }
  return sampled;
}

Result<std::vector<SampledRow>> Sampler::Score(Stream& stream, TensorView logits,
                                               std::span<const LogitsRow> rows,
                                               std::span<const RunnerSequence* const> seqs) {
  const int top = std::max(0, MaxTop(seqs, &SamplingParams::prompt_logprobs, vocab_size_));
  tokens_.Clear();
  for (const LogitsRow& row : rows) tokens_.Push(row.target);
  tokens_.Upload(*backend_, stream, {static_cast<int64_t>(rows.size())});
  EnqueueLogprobs(stream, logits, static_cast<int64_t>(rows.size()), top);
  GALE_RETURN_IF_ERROR(stream.Synchronize());

  std::vector<SampledRow> scored(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    scored[i].token = rows[i].target;
    const int wanted = seqs[i]->sampling.prompt_logprobs.value_or(0);
    scored[i].logprobs = ReadLogprobs(i, rows[i].target, wanted, top);
  }
  return scored;
}

void Sampler::FillParameters(std::span<const LogitsRow> rows,
                             std::span<const RunnerSequence* const> seqs) {
  temperature_.Clear();
  top_k_.Clear();
  top_p_.Clear();
  min_p_.Clear();
  seed_.Clear();
  counter_.Clear();
  for (size_t i = 0; i < rows.size(); ++i) {
    const SamplingParams& sampling = seqs[i]->sampling;
    temperature_.Push(sampling.temperature);
    top_k_.Push(sampling.top_k);
    top_p_.Push(sampling.top_p);
    min_p_.Push(sampling.min_p);
    seed_.Push(sampling.seed.value_or(0));
    counter_.Push(static_cast<uint64_t>(rows[i].position));
    counter_.Push(
        RandomCounterHigh(static_cast<uint32_t>(seqs[i]->sample_index), RandomStream::kSample));
  }
}

TensorView Sampler::UploadMasks(Stream& stream,
                                std::span<const SamplingInputs::Bitmask* const> masks) {
  if (std::ranges::all_of(masks, [](const auto* mask) { return mask == nullptr; })) return {};
  const int64_t words = MaskWords(vocab_size_);
  bitmask_.Clear();
  for (const SamplingInputs::Bitmask* mask : masks) {
    const std::span<int32_t> row = bitmask_.Extend(static_cast<size_t>(words));
    if (mask == nullptr) {
      std::ranges::fill(row, -1);  // all allowed
    } else {
      GALE_CHECK_EQ(mask->words.size(), row.size());
      std::ranges::copy(mask->words, row.begin());
    }
  }
  return bitmask_.Upload(*backend_, stream, {static_cast<int64_t>(masks.size()), words});
}

void Sampler::EnqueueLogprobs(Stream& stream, const TensorView& logits, int64_t rows, int top) {
  LogprobsArgs args;
  args.logits = logits;
  args.tokens = tokens_.device({rows});
  args.chosen = chosen_.device({rows});
  if (top > 0) {
    args.top_ids = top_ids_.device({rows, top});
    args.top_logprobs = top_logprobs_.device({rows, top});
  }
  backend_->Logprobs(stream, args);
  chosen_.Download(*backend_, stream, static_cast<size_t>(rows));
  top_ids_.Download(*backend_, stream, static_cast<size_t>(rows * top));
  top_logprobs_.Download(*backend_, stream, static_cast<size_t>(rows * top));
}

PositionLogprobs Sampler::ReadLogprobs(size_t row, TokenId token, int wanted, int top) const {
  PositionLogprobs logprobs;
  logprobs.chosen = {token, chosen_.host()[row]};
  const size_t first = row * static_cast<size_t>(top);
  for (size_t i = first; i < first + static_cast<size_t>(std::min(wanted, top)); ++i) {
    logprobs.top.push_back({top_ids_.host()[i], top_logprobs_.host()[i]});
  }
  return logprobs;
}

}  // namespace gale
