// From logits to tokens: fills the rows of the back end's sampling ops and reads their results.
// Layer L4; owned by ModelRunner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "request/sequence.h"
#include "runner/executor.h"
#include "runner/input_batch.h"

namespace gale {

/// A row of logits and what is to become of it.
struct LogitsRow {
  size_t seq = 0;          ///< index into the step's sequences
  int32_t hidden_row = 0;  ///< row of the step's hidden states
  int32_t position = 0;    ///< of the token that this row predicts
  TokenId target = -1;     ///< the prompt token at that position; -1: a token is drawn
};

struct SampledRow {
  TokenId token = -1;         ///< drawn, or the row's target
  PositionLogprobs logprobs;  ///< when the row's sequence asks for them
};

/// A draw is a pure function of (logits row, parameters, counter): the Philox key is the request's
/// seed, the counter {position of the new token, sample index, RandomStream::kSample}, so no draw
/// depends on the batch around it and none is used twice.
class Sampler {
 public:
  static Result<Sampler> Create(Backend& backend, int max_rows, int vocab_size);

  /// Draws one token per row; `seqs[i]` is the sequence of `rows[i]`. `masks[i]` may be null.
  /// `logits` f32 [rows, vocab] is overwritten. Waits for the stream.
  Result<std::vector<SampledRow>> Draw(Stream& stream, TensorView logits,
                                       std::span<const LogitsRow> rows,
                                       std::span<const RunnerSequence* const> seqs,
                                       std::span<const SamplingInputs::Bitmask* const> masks);
  /// Log-probabilities of each row's target. Waits for the stream.
  Result<std::vector<SampledRow>> Score(Stream& stream, TensorView logits,
                                        std::span<const LogitsRow> rows,
                                        std::span<const RunnerSequence* const> seqs);

  /// Device bytes beside the logits themselves that one row takes.
  static size_t BytesPerRow(int vocab_size);

 private:
  void FillParameters(std::span<const LogitsRow> rows, std::span<const RunnerSequence* const> seqs);
  TensorView UploadMasks(Stream& stream, std::span<const SamplingInputs::Bitmask* const> masks);
  /// Enqueues Logprobs of `tokens_` and the downloads; `top` alternatives for every row.
  void EnqueueLogprobs(Stream& stream, const TensorView& logits, int64_t rows, int top);
  PositionLogprobs ReadLogprobs(size_t row, TokenId token, int wanted, int top) const;

  Backend* backend_ = nullptr;
  int vocab_size_ = 0;
  StagedArray<float> temperature_;
  StagedArray<int32_t> top_k_;
  StagedArray<float> top_p_;
  StagedArray<float> min_p_;
  StagedArray<uint64_t> seed_;
  StagedArray<uint64_t> counter_;
  StagedArray<int32_t> bitmask_;
  StagedArray<int32_t> tokens_;  ///< drawn, or the targets
  StagedArray<float> chosen_;
  StagedArray<int32_t> top_ids_;
  StagedArray<float> top_logprobs_;
  Buffer raw_logits_;  ///< kept aside from a draw that may overwrite them
};

}  // namespace gale
