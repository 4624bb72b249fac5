#include "runner/sequence_tables.h"

#include <array>
#include <bit>
#include <initializer_list>
#include <limits>
#include <span>

#include "backend/logits_edit.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace gale {
namespace {

/// Where the tables lie, side by side; `base` is null when only their size is wanted.
class Layout {
 public:
  explicit Layout(void* base) : base_(static_cast<char*>(base)) {}

  TensorView Take(DType dtype, std::initializer_list<int64_t> dims) {
    const TensorView view(base_ == nullptr ? nullptr : base_ + bytes_, dtype, dims);
    const size_t size = static_cast<size_t>(view.NumElements()) * DTypeBytes(dtype);
    bytes_ += (size + kAlignment - 1) / kAlignment * kAlignment;
    return view;
  }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kAlignment = 256;
  char* base_;
  size_t bytes_ = 0;
};

size_t LayOut(const StepLimits& limits, int vocab_size, void* base, SequenceTables& tables) {
  Layout layout(base);
  const int64_t slots = limits.max_seqs;
  tables.last_tokens = layout.Take(DType::kI32, {slots * (1 + limits.max_draft_tokens)});
  tables.mirostat_mu = layout.Take(DType::kF32, {slots});
  // One more: the last token of a full context is drawn, though nothing follows it.
  tables.history = layout.Take(DType::kI32, {slots, int64_t{limits.max_model_len} + 1});
  tables.edits = layout.Take(DType::kI32, {slots, kLogitsEditWords});
  tables.allowed = layout.Take(DType::kI32, {slots, (vocab_size + 31) / 32});
  return layout.bytes();
}

/// The sequence's record: its head, its biases, its tokens.
class RecordBuilder {
 public:
  explicit RecordBuilder(const RunnerSequence& seq) {
    const SamplingParams& sampling = seq.sampling;
    edit_.num_prompt = seq.num_prompt;
    edit_.repetition_penalty = sampling.repetition_penalty;
    edit_.presence_penalty = sampling.presence_penalty;
    edit_.frequency_penalty = sampling.frequency_penalty;
    edit_.dry_multiplier = sampling.dry_multiplier;
    edit_.dry_base = sampling.dry_base;
    edit_.dry_allowed_length = sampling.dry_allowed_length;
    edit_.dry_range =
        sampling.dry_range > 0 ? sampling.dry_range : std::numeric_limits<int32_t>::max();
    edit_.num_breakers = static_cast<int32_t>(sampling.dry_breaker_ids.size());
    edit_.is_masked = sampling.allowed_token_ids.empty() ? 0 : 1;
    tokens_ = sampling.dry_breaker_ids;
    for (const LogitBias& bias : sampling.logit_bias) Add({&bias.token, 1}, bias.bias);
    for (const std::vector<TokenId>& sequence : sampling.bad_token_ids) Add(sequence, kBan);
    if (sampling.min_tokens == 0) return;
    for (const TokenId& token : seq.end_token_ids) {
      Add({&token, 1}, kBan, seq.num_prompt + sampling.min_tokens);
    }
  }

  std::vector<int32_t> Words() {
    edit_.num_biases = static_cast<int32_t>(biases_.size());
    std::vector<int32_t> words;
    const auto append = [&words](const auto& part) {
      constexpr size_t kWords = sizeof(part) / sizeof(int32_t);
      for (const int32_t word : std::bit_cast<std::array<int32_t, kWords>>(part)) {
        words.push_back(word);
      }
    };
    append(edit_);
    for (const SequenceBias& bias : biases_) append(bias);
    words.insert(words.end(), tokens_.begin(), tokens_.end());
    GALE_CHECK_LE(std::ssize(words), kLogitsEditWords);  // SamplingParams::Validate sees to it
    return words;
  }

 private:
  static constexpr float kBan = -std::numeric_limits<float>::infinity();

  void Add(std::span<const TokenId> sequence, float bias,
           int32_t until_length = SequenceBias().until_length) {
    biases_.push_back({.first_token = static_cast<int32_t>(tokens_.size()),
                       .num_tokens = static_cast<int32_t>(sequence.size()),
                       .bias = bias,
                       .until_length = until_length});
    tokens_.insert(tokens_.end(), sequence.begin(), sequence.end());
  }

  LogitsEdit edit_;
  std::vector<SequenceBias> biases_;
  std::vector<int32_t> tokens_;
};

std::vector<int32_t> AllowedMask(const std::vector<TokenId>& tokens, int64_t num_words) {
  std::vector<int32_t> words(static_cast<size_t>(num_words));
  for (const TokenId token : tokens) {
    int32_t& word = words[static_cast<size_t>(token / 32)];
    word = static_cast<int32_t>(static_cast<uint32_t>(word) | 1U << (token % 32));
  }
  return words;
}

}  // namespace

bool EditsLogits(const RunnerSequence& seq) {
  const SamplingParams& sampling = seq.sampling;
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0 || sampling.dry_multiplier > 0 ||
         !sampling.logit_bias.empty() || !sampling.bad_token_ids.empty() ||
         !sampling.allowed_token_ids.empty() ||
         (sampling.min_tokens > 0 && !seq.end_token_ids.empty());
}

size_t SequenceTables::DeviceBytes(const StepLimits& limits, int vocab_size) {
  SequenceTables measured;
  return LayOut(limits, vocab_size, nullptr, measured);
}

Status SequenceTables::Allocate(Backend& backend, const StepLimits& limits, int vocab_size) {
  GALE_ASSIGN_OR_RETURN(memory_,
                        backend.Allocate(DeviceBytes(limits, vocab_size), MemoryKind::kDevice));
  num_slots_ = limits.max_seqs;
  max_draft_tokens_ = limits.max_draft_tokens;
  LayOut(limits, vocab_size, memory_.data(), *this);
  return {};
}

void SequenceTables::Upload(Backend& backend, Stream& stream, const RunnerSequence& seq,
                            Sources& sources) const {
  const auto upload = [&](const TensorView& table, std::vector<int32_t> words) {
    const TensorView row = table.Rows(seq.slot, seq.slot + 1);
    GALE_CHECK_LE(std::ssize(words), row.NumElements());
    sources.push_back(std::move(words));
    backend.Copy(stream, row.data, sources.back().data(), sources.back().size() * sizeof(int32_t));
  };
  if (seq.sampling.mirostat != 0) upload(mirostat_mu, {std::bit_cast<int32_t>(seq.mirostat_mu)});
  if (!EditsLogits(seq)) return;
  upload(history, seq.tokens);
  upload(edits, RecordBuilder(seq).Words());
  if (!seq.sampling.allowed_token_ids.empty()) {
    upload(allowed, AllowedMask(seq.sampling.allowed_token_ids, allowed.dim(1)));
  }
}

}  // namespace gale
