// Arguments of every op: named fields with their shapes. Layer L1b, shared by all devices.
// "x" dtypes are the model's activation dtype (f32 or bf16) unless said otherwise; sums are f32.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace gale {

/// out[t] = scale * table[tokens[t]]. A token that the host does not know yet, because the step
/// before is still drawing it, is given as ~slot, a negative number: it is last_tokens[slot]. Cost:
/// reads and writes tokens * hidden elements.
struct EmbeddingArgs {
  TensorView tokens;            ///< i32 [tokens]; ids in [0, vocab), or ~slot
  TensorView table;             ///< [vocab, hidden], any float dtype
  TensorView out;               ///< [tokens, hidden]
  TensorView last_tokens = {};  ///< i32 [slots], where Sample put them; may be empty
  float scale = 1;
};

/// out = (x [+ residual]) / rms * (weight_offset + weight), row by row (arXiv:1910.07467).
struct RmsNormArgs {
  TensorView x;         ///< [tokens, hidden]
  TensorView weight;    ///< [hidden]
  TensorView residual;  ///< [tokens, hidden] or empty; becomes x + residual before the norm
                        ///< (rounded to its dtype; the norm may see the sum before or after that)
  TensorView out;       ///< [tokens, hidden]; may alias x, or residual, whose sum is then lost
  float eps = 1e-6F;
  float weight_offset = 0;  ///< 1 where a checkpoint stores how much a weight differs from 1
};

/// What follows the QKV projection: per-head norms, rotary embedding and the KV cache write, fused
/// so that a device may do it in one pass. In place on `qkv`.
struct QkvRopeArgs {
  TensorView qkv;        ///< [tokens, (q_heads + 2 * kv_heads) * head_dim]
  TensorView positions;  ///< i32 [tokens]
  TensorView q_norm;     ///< [head_dim] or empty
  TensorView k_norm;     ///< [head_dim] or empty
  TensorView inv_freq;   ///< f32 [rotary_dim / 2]; scaling schemes are folded in at load; an
                         ///< angle is position * inv_freq rounded to f32
  float rope_scale = 1;  ///< multiplies cos and sin (YaRN's attention factor)
  float norm_eps = 1e-6F;
  float norm_weight_offset = 0;  ///< as RmsNormArgs::weight_offset
  /// Pairs of elements that are rotated: (2i, 2i + 1), else (i, i + rotary_dim / 2).
  bool interleaved = false;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

enum class Activation {
  kSilu,      ///< x / (1 + exp(-x))
  kGeluTanh,  ///< GELU with its tanh in place of the error function (arXiv:1606.08415)
};

/// out = activation(gate) * up, where gate_up rows are [gate | up] (arXiv:2002.05202).
struct GatedActivationArgs {
  TensorView gate_up;  ///< [tokens, 2 * intermediate]
  TensorView out;      ///< [tokens, intermediate]
  Activation activation = Activation::kSilu;
};

/// x = cap * tanh(x / cap), in place: keeps logits within cap (arXiv:2408.00118).
struct SoftcapArgs {
  TensorView x;  ///< f32 [rows, n]
  float cap = 0;
};

/// out[i] = x[rows[i]]; used to pick the rows that need logits.
struct GatherRowsArgs {
  TensorView x;     ///< [tokens, hidden]
  TensorView rows;  ///< i32 [n]
  TensorView out;   ///< [n, hidden]
};

/// One draw per row: temperature, top-k, top-p, min-p, then inverse CDF over ascending ids with one
/// Philox number (base/rng.h). A pure function of the row, its parameters and its counter: no draw
/// depends on its neighbours. Likelier means a higher logit, then a lower id. top-k keeps the k
/// likeliest; top-p the fewest of those, likeliest first, whose share of what top-k left reaches
/// top_p (at least one); min-p drops those less likely than min_p times the likeliest.
struct SampleArgs {
  TensorView logits;       ///< f32 [rows, vocab]
  TensorView temperature;  ///< f32 [rows]; 0 = greedy, the lowest id among equal maxima
  TensorView top_k;        ///< i32 [rows]; 0 = off
  TensorView top_p;        ///< f32 [rows]; 1 = off
  TensorView min_p;        ///< f32 [rows]; 0 = off
  TensorView seed;         ///< u64 [rows]; Philox key
  TensorView counter;      ///< u64 [rows, 2]; {position, sample index << 32 | RandomStream}
  TensorView bitmask;      ///< i32 [rows, ceil(vocab / 32)] of allowed tokens, or empty
  TensorView out;          ///< i32 [rows]; may be pinned host memory
  TensorView slots = {};   ///< i32 [rows], or empty; last_tokens[slots[r]] = out[r], < 0: nowhere
  TensorView last_tokens = {};  ///< i32 [slots]; read by the next step's Embedding
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

/// out[i] = mean + std * table[draw i], where draw i is 16 bits of Philox (base/rng.h): half-word
/// i % 8, low halves first, of the block with key `seed` and counter {i / 8, stream}. A function of
/// seed, stream and i alone, so that memory of any device can be filled alike, up to the rounding
/// of one multiply-add. Cost: one Philox block for eight elements; memory-bound on a GPU.
struct FillRandomArgs {
  TensorView table;  ///< f32 [65536]: quantiles of the distribution wanted
  uint64_t seed = 0;
  uint64_t stream = 0;
  float mean = 0;
  float std = 1;
  TensorView out;  ///< any shape, contiguous; f32 or bf16
};

}  // namespace gale
