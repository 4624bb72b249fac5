// Arguments of every op: named fields with their shapes. Layer L1b, shared by all devices.
// "x" dtypes are the model's activation dtype (f32 or bf16) unless said otherwise; sums are f32.
#pragma once

#include <cstdint>

#include "backend/sampling_args.h"
#include "tensor/quant_format.h"
#include "tensor/tensor_view.h"

namespace gale {

/// out[t] = scale * table[tokens[t]]. A token that the host does not know yet, because the step
/// before is still drawing it, is given as ~slot, a negative number: it is last_tokens[slot]. Cost:
/// reads and writes tokens * hidden elements.
struct EmbeddingArgs {
  TensorView tokens;            ///< i32 [tokens]; ids in [0, vocab), or ~slot
  TensorView table;             ///< [vocab, hidden], any float dtype, or blocks as in LinearWeight
  TensorView out;               ///< [tokens, hidden]
  TensorView last_tokens = {};  ///< i32 [slots], where Sample put them; may be empty
  float scale = 1;
  GgmlType blocks = GgmlType::kNone;  ///< of the table
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

/// Rotary embedding of heads that lie anywhere: out = x rotated, for models whose rotated elements
/// have a place of their own (MLA, arXiv:2405.04434, section 2.1.3).
struct RotateArgs {
  TensorView x;          ///< [tokens, heads, 2 * pairs]; strided
  TensorView positions;  ///< i32 [tokens]
  TensorView inv_freq;   ///< f32 [pairs], as in QkvRopeArgs
  float rope_scale = 1;
  bool interleaved = false;  ///< as in QkvRopeArgs
  TensorView out;            ///< as x; may alias it
};

enum class Activation {
  kSilu,      ///< x / (1 + exp(-x))
  kGeluTanh,  ///< GELU with its tanh in place of the error function (arXiv:1606.08415)
  /// gpt-oss: gate / (1 + exp(-alpha * gate)) * (up + 1), the gate at most `limit`, up within it.
  kClampedSwiglu,
};

/// out = activation(gate) * up, where gate_up rows are [gate | up] (arXiv:2002.05202).
struct GatedActivationArgs {
  TensorView gate_up;  ///< [tokens, 2 * intermediate]
  TensorView out;      ///< [tokens, intermediate]
  Activation activation = Activation::kSilu;
  float alpha = 1;  ///< kClampedSwiglu
  float limit = 0;  ///< kClampedSwiglu
};

/// x = x + silu(y), the residual block of Medusa heads (arXiv:2401.10774).
struct AddSiluArgs {
  TensorView x;  ///< [rows, n]
  TensorView y;  ///< [rows, n]
};

/// x = cap * tanh(x / cap), in place: keeps logits within cap (arXiv:2408.00118).
struct SoftcapArgs {
  TensorView x;  ///< f32 [rows, n]
  float cap = 0;
};

/// What a router makes of its logits: scores that are compared and become weights.
enum class RouterScore {
  kSoftmax,  ///< over all experts
  kSigmoid,  ///< each expert for itself (arXiv:2412.19437)
};

/// Picks `top_k` experts for each token, and lists the picks by expert. A pick is a pair (token,
/// choice) with the number token * top_k + choice; choices are in the order of falling rank, equal
/// ranks by lower expert. Experts rank by score + correction. With groups, only experts of the
/// `top_groups` best groups are picked; a group ranks by the sum of its `group_top` best experts
/// (arXiv:2405.04434, section 2.1.2: 1; arXiv:2412.19437: 2).
/// Errors: CHECK that each token has top_k experts to pick from.
struct MoeRouteArgs {
  TensorView logits;      ///< f32 [tokens, experts]
  TensorView correction;  ///< f32 [experts] or empty; ranks experts and does not weigh them
  RouterScore score = RouterScore::kSoftmax;
  int num_groups = 1;  ///< divides the number of experts
  int top_groups = 1;
  int group_top = 1;
  bool renormalize = false;  ///< a token's weights are divided by their sum
  float scale = 1;           ///< multiplies the weights at last

  TensorView experts;  ///< i32 [tokens, top_k] out: each pick's expert
  TensorView weights;  ///< f32 [tokens, top_k] out: its score, renormalized and scaled
  TensorView offsets;  ///< i32 [experts + 1] out: expert e has entries offsets[e] to offsets[e + 1]
  TensorView picks;    ///< i32 [tokens * top_k] out: picks by expert, those of one ascending
  TensorView tokens;   ///< i32 [tokens * top_k] out: picks[i] / top_k
};

/// out[t] = sum over choices, in order, of weights[t, c] * x[t * top_k + c], plus the experts that
/// every token shares. Sums are f32.
struct MoeCombineArgs {
  TensorView x;            ///< [tokens * top_k, hidden]
  TensorView weights;      ///< f32 [tokens, top_k]
  TensorView shared;       ///< [tokens, hidden] or empty; added last
  TensorView shared_gate;  ///< f32 [tokens, 1] or empty; its sigmoid multiplies `shared`
  TensorView out;          ///< [tokens, hidden]; may alias shared
};

/// out[i] = x[rows[i]]; used to pick the rows that need logits.
struct GatherRowsArgs {
  TensorView x;     ///< [tokens, hidden]
  TensorView rows;  ///< i32 [n]
  TensorView out;   ///< [n, hidden]
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
