// From logits to tokens: the rows of the back end's sampling ops and their results, of one step.
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
  TokenId target = -1;     ///< the prompt token that the row predicts; -1: a token is drawn
  int num_top = -1;        ///< alternatives to report; -1: no log-probabilities at all
};

struct SampledRow {
  TokenId token = -1;         ///< drawn, or the row's target
  PositionLogprobs logprobs;  ///< when the row asks for them
};

/// A draw is a pure function of (logits row, parameters, counter): the Philox key is the request's
/// seed, the counter {position of the new token, sample index, RandomStream::kSample}, so no draw
/// depends on the batch around it and none is used twice.
///
/// A step's life: Clear, AddDraw and AddScore, upload, Draw and Score (which only enqueue, and
/// write results to pinned host memory), then, when the device has passed them, Drawn and Scored.
class Sampler {
 public:
  /// Takes its arrays from two blocks: `arrays`, which the caller uploads, and `masks`.
  Sampler(StagedBlock& arrays, StagedBlock& masks, const StepLimits& limits, int vocab_size);
  /// The results' memory.
  Status Allocate(Backend& backend);

  void Clear();
  /// A token of `seq`, at `position`, is to be drawn from a row of hidden states.
  void AddDraw(const RunnerSequence& seq, const LogitsRow& row, int32_t position);
  void AddScore(const LogitsRow& row);
  /// Adds draws that come to nothing, from hidden rows of the same number.
  void PadDrawsTo(int num_rows);

  std::span<const LogitsRow> draws() const { return draws_; }
  std::span<const LogitsRow> scores() const { return scores_; }
  /// i32 [end - begin]: the hidden rows of these draws or scores.
  TensorView DrawRows(int64_t begin, int64_t end) const {
    return draw_rows_.device({end - begin}, begin);
  }
  TensorView ScoreRows(int64_t begin, int64_t end) const {
    return score_rows_.device({end - begin}, begin);
  }
  bool wants_logprobs() const { return draw_top_ >= 0 || !scores_.empty(); }

  /// The draws from `begin` on, as many as there are rows of `logits` f32 [rows, vocab], padding
  /// included. Tokens also go to `last_tokens`.
  void DrawTokens(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin,
                  const TensorView& bitmask, const TensorView& last_tokens) const;
  /// The same, with log-probabilities where they are wanted. `masks` is empty or has one for each
  /// draw, which may be null.
  void Draw(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin,
            std::span<const SamplingInputs::Bitmask* const> masks, const TensorView& last_tokens);
  /// Log-probabilities of the targets from `begin` on.
  void Score(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin);

  SampledRow Drawn(size_t draw) const;
  SampledRow Scored(size_t score) const;

 private:
  TensorView Tokens(int64_t begin, int64_t n) const {
    return TensorView(static_cast<int32_t*>(tokens_.data()) + begin, DType::kI32, {n});
  }
  TensorView UploadMasks(Backend& backend, Stream& stream,
                         std::span<const SamplingInputs::Bitmask* const> masks);
  void EnqueueLogprobs(Backend& backend, Stream& stream, const TensorView& logits,
                       const TensorView& tokens, int64_t first_result, int top);
  PositionLogprobs ReadLogprobs(size_t result, TokenId token, int num_top) const;

  int vocab_size_ = 0;
  size_t max_draws_ = 0;
  size_t max_rows_ = 0;  ///< draws and scores
  std::vector<LogitsRow> draws_;
  std::vector<LogitsRow> scores_;
  int draw_top_ = -1;  ///< the most alternatives that a draw wants
  int score_top_ = -1;

  StagedArray<int32_t> draw_rows_;  ///< [draws]: of the hidden states
  StagedArray<float> temperature_;
  StagedArray<int32_t> top_k_;
  StagedArray<float> top_p_;
  StagedArray<float> min_p_;
  StagedArray<uint64_t> seed_;
  StagedArray<uint64_t> counter_;    ///< [draws, 2]
  StagedArray<int32_t> slots_;       ///< [draws]: where a token goes in last_tokens
  StagedArray<int32_t> score_rows_;  ///< [scores]
  StagedArray<int32_t> targets_;     ///< [scores]
  StagedArray<int32_t> bitmask_;     ///< [draws, words]

  // Results, in pinned host memory; those of scores behind those of draws.
  Buffer tokens_;        ///< i32 [draws]
  Buffer chosen_;        ///< f32 [rows]
  Buffer top_ids_;       ///< i32 [rows, kMaxTop]
  Buffer top_logprobs_;  ///< f32 [rows, kMaxTop]
};

}  // namespace gale
