// Arguments of the ops between logits and tokens, which run in this order: EditLogits, Sample, and
// Logprobs of the logits before they were edited. Layer L1b, shared by all devices.
#pragma once

#include "tensor/tensor_view.h"

namespace gale {

/// Changes the logits of a row by what its sequence asks for and has said, each step on the result
/// of the one before: repetition, presence and frequency penalty; DRY; biases; bans; the mask of
/// allowed tokens. The formulas are in logits_edit.h. Which tokens were said is read from the
/// history, so that a token which the host has not seen yet counts; nothing depends on other rows.
/// Cost: reads and writes the rows; reads the history once for every 8192 tokens of the vocabulary.
struct EditLogitsArgs {
  TensorView logits;   ///< f32 [rows, vocab]
  TensorView slots;    ///< i32 [rows]: of the tables below; < 0: this row stays as it is
  TensorView lengths;  ///< i32 [rows]: of the row's history
  TensorView history;  ///< i32 [slots, capacity]: the prompt, then drawn tokens
  TensorView edits;    ///< i32 [slots, kLogitsEditWords]: records
  TensorView allowed;  ///< i32 [slots, ceil(vocab / 32)]: bitmasks; read where the record says so
  TensorView out;      ///< f32 [rows, vocab]; may be `logits`
};

/// Filters that few requests use: all of them there, or all empty. XTC's chance is drawn with the
/// row's counter in the stream RandomStream::kXtc.
struct RareFilters {
  TensorView top_n_sigma;      ///< f32 [rows]; 0 = off
  TensorView typical_p;        ///< f32 [rows]; 1 = off
  TensorView xtc_probability;  ///< f32 [rows]; 0 = off
  TensorView xtc_threshold;    ///< f32 [rows]
  TensorView mirostat_tau;     ///< f32 [rows], in bits; 0 = off
  TensorView mirostat_eta;     ///< f32 [rows]
  TensorView mirostat_mu;      ///< f32 [slots], in bits: read, and adapted by the draw
  TensorView mu_out;           ///< f32 [rows]: the adapted one; may be pinned host memory
};

/// One draw per row: temperature and filters, then inverse CDF over ascending ids with one Philox
/// number (base/rng.h). A pure function of the row, its parameters and its counter: no draw depends
/// on its neighbours. Likelier means a higher logit, then a lower id. Each filter sees what those
/// before it left, with probabilities that sum to 1; what it leaves is a run in the order of
/// likelihood, of at least one token:
///   top-n-sigma  logits within n standard deviations (of all logits that are not banned) of the
///                largest (arXiv:2411.07641)
///   top-k        the k likeliest
///   typical      the fewest tokens, those whose surprise is closest to the entropy first, whose
///                share reaches typical_p; with all at the last one's distance (arXiv:2202.00666)
///   top-p        the fewest, likeliest first, whose share reaches top_p (arXiv:1904.09751)
///   min-p        those at least min_p times as likely as the likeliest (arXiv:2407.01082)
///   XTC          by chance xtc_probability, and if two or more reach xtc_threshold: all but those,
///                and the least likely of those
///   mirostat 2   those whose surprise is at most mu, and the likeliest; the draw then moves mu by
///                eta * (tau - surprise of the token, as it was before this cut) (arXiv:2007.14966)
struct SampleArgs {
  TensorView logits;          ///< f32 [rows, vocab]
  TensorView temperature;     ///< f32 [rows]; 0 = greedy, the lowest id among equal maxima
  TensorView top_k;           ///< i32 [rows]; 0 = off
  TensorView top_p;           ///< f32 [rows]; 1 = off
  TensorView min_p;           ///< f32 [rows]; 0 = off
  TensorView seed;            ///< u64 [rows]; Philox key
  TensorView counter;         ///< u64 [rows, 2]; {position, sample index << 32 | RandomStream}
  TensorView bitmask;         ///< i32 [rows, ceil(vocab / 32)] of allowed tokens, or empty
  TensorView token_ids = {};  ///< i32 [vocab]: the tokens that the columns stand for, which are
                              ///< what is drawn; empty: their numbers
  TensorView out;         ///< i32 [rows]; may be pinned host memory
  TensorView slots = {};  ///< i32 [rows], or empty; last_tokens[slots[r]] = out[r], < 0: nowhere
  TensorView last_tokens = {};  ///< i32 [slots]; read by the next step's Embedding
  /// i32 [slots, capacity], or empty; history[slots[r]][position of r's counter] = out[r].
  TensorView history = {};
  RareFilters rare = {};  ///< needs `slots`
};

/// Log-softmax of chosen tokens and of the likeliest ones, from raw logits. Results may be pinned
/// host memory.
struct LogprobsArgs {
  TensorView logits;   ///< f32 [rows, vocab]
  TensorView tokens;   ///< i32 [rows]; a negative id leaves its chosen logprob unset
  TensorView chosen;   ///< f32 [rows]
  TensorView top_ids;  ///< i32 [rows, k]; best first, ties by lower id; k may be 0 (empty view)
  TensorView top_logprobs;  ///< f32 [rows, k]
};

}  // namespace gale
