// From logits to tokens: the rows of the back end's sampling ops and their results, of one step.
// Layer L4; owned by ModelRunner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "request/sequence.h"
#include "runner/executor.h"
#include "runner/input_batch.h"
#include "runner/sequence_tables.h"

namespace gale {

/// A row of logits and what is to become of it.
struct LogitsRow {
  size_t seq = 0;           ///< index into the step's sequences
  int32_t hidden_row = 0;   ///< row of the step's hidden states
  TokenId target = -1;      ///< the prompt token that the row predicts; -1: a token is drawn
  int num_top = -1;         ///< alternatives to report; -1: no log-probabilities at all
  int32_t place = -1;       ///< in last_tokens, where a drawn token goes; -1: its sequence's slot
  bool reports_mu = false;  ///< mirostat's state comes back with the token
};

struct SampledRow {
  TokenId token = -1;                     ///< drawn, or the row's target
  PositionLogprobs logprobs;              ///< when the row asks for them
  std::optional<float> mirostat_mu = {};  ///< with mirostat
};

/// A draw is a pure function of (logits row, parameters, counter): the Philox key is the request's
/// seed, the counter {position of the new token, sample index, RandomStream::kSample}, so no draw
/// depends on the batch around it and none is used twice.
///
/// What a sequence has said comes in through its logits alone: they are edited before the draw.
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
  /// Whether DrawTokens does all that this step needs.
  bool is_plain() const {
    return draw_top_ < 0 && scores_.empty() && !has_edits_ && !has_rare_filters_;
  }
  /// Whether Draw needs the logits twice: as they are, and to edit them.
  bool needs_copy() const { return has_edits_ && draw_top_ >= 0; }

  /// The draws from `begin` on, as many as there are rows of `logits` f32 [rows, vocab], padding
  /// included; no edits, no rare filters. Tokens also go to `tables`. `token_ids` as in SampleArgs.
  void DrawTokens(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin,
                  const SequenceTables& tables, const TensorView& token_ids = {}) const;
  /// All that the draws ask for. `masks` is empty or has one for each draw, which may be null.
  /// `edited`: memory as `logits`, with needs_copy(); else the logits are edited in place.
  void Draw(Backend& backend, Stream& stream, const TensorView& logits, const TensorView& edited,
            int64_t begin, std::span<const SamplingInputs::Bitmask* const> masks,
            const SequenceTables& tables);
  /// Log-probabilities of the targets from `begin` on.
  void Score(Backend& backend, Stream& stream, const TensorView& logits, int64_t begin);

  SampledRow Drawn(size_t draw) const;
  SampledRow Scored(size_t score) const;

 private:
  TensorView Tokens(int64_t begin, int64_t n) const {
    return TensorView(static_cast<int32_t*>(tokens_.data()) + begin, DType::kI32, {n});
  }
  SampleArgs BaseArgs(const TensorView& logits, int64_t begin, const SequenceTables& tables) const;
  RareFilters Rare(int64_t begin, int64_t n, const SequenceTables& tables) const;
  void Edit(Backend& backend, Stream& stream, const TensorView& logits, const TensorView& out,
            int64_t begin, const SequenceTables& tables) const;
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
  bool has_edits_ = false;
  bool has_rare_filters_ = false;

  StagedArray<int32_t> draw_rows_;  ///< [draws]: of the hidden states
  StagedArray<float> temperature_;
  StagedArray<int32_t> top_k_;
  StagedArray<float> top_p_;
  StagedArray<float> min_p_;
  StagedArray<uint64_t> seed_;
  StagedArray<uint64_t> counter_;    ///< [draws, 2]
  StagedArray<int32_t> slots_;       ///< [draws]: of the sequence tables
  StagedArray<int32_t> edit_slots_;  ///< [draws]: the same, -1 for a row that is not edited
  StagedArray<int32_t> lengths_;     ///< [draws]: tokens before the drawn one
  StagedArray<float> top_n_sigma_;   ///< [draws], as the others of RareFilters
  StagedArray<float> typical_p_;
  StagedArray<float> xtc_probability_;
  StagedArray<float> xtc_threshold_;
  StagedArray<float> mirostat_tau_;
  StagedArray<float> mirostat_eta_;
  StagedArray<int32_t> score_rows_;  ///< [scores]
  StagedArray<int32_t> targets_;     ///< [scores]
  StagedArray<int32_t> bitmask_;     ///< [draws, words]

  // Results, in pinned host memory; those of scores behind those of draws.
  Buffer tokens_;        ///< i32 [draws]
  Buffer mu_;            ///< f32 [draws]
  Buffer chosen_;        ///< f32 [rows]
  Buffer top_ids_;       ///< i32 [rows, kMaxTop]
  Buffer top_logprobs_;  ///< f32 [rows, kMaxTop]
};

}  // namespace gale
