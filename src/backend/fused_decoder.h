// A whole decoder as one device operation, for steps of few rows, where the time between kernels
// counts. Optional: a back end that fuses nothing returns no FusedDecoder. Layer L1b.
#pragma once

#include <vector>

#include "backend/attention_backend.h"
#include "tensor/tensor_view.h"

namespace gale {

class Stream;

/// Device memory of one layer's weights; linear weights [out, in] in the activation dtype.
struct DecoderLayerWeights {
  TensorView input_norm;  ///< [hidden]
  TensorView qkv;         ///< [(q_heads + 2 * kv_heads) * head_dim, hidden]
  TensorView qkv_bias;    ///< [(q_heads + 2 * kv_heads) * head_dim] or empty
  TensorView q_norm;      ///< [head_dim] or empty
  TensorView k_norm;      ///< [head_dim] or empty
  TensorView o;           ///< [hidden, q_heads * head_dim]
  TensorView mlp_norm;    ///< [hidden]
  TensorView gate_up;     ///< [2 * intermediate, hidden], gates first
  TensorView down;        ///< [hidden, intermediate]
};

/// What a model of pre-norm, gated feed-forward layers is, as plain data.
struct DecoderDescription {
  AttentionSpec attention;
  int hidden = 0;
  int intermediate = 0;
  int vocab = 0;
  float norm_eps = 1e-6F;
  TensorView embedding;   ///< [vocab, hidden]
  TensorView final_norm;  ///< [hidden]
  TensorView lm_head;     ///< [vocab, hidden]
  TensorView inv_freq;    ///< f32 [rotary_dim / 2]
  std::vector<DecoderLayerWeights> layers;
};

struct FusedDecodeArgs {
  TensorView token_ids;                       ///< i32 [tokens]; ids or ~slot, as in EmbeddingArgs
  TensorView positions;                       ///< i32 [tokens]
  const AttentionBatch* attention = nullptr;  ///< of the one group of layers
  KvCacheView cache;                          ///< as bound to the group's AttentionBackend
  TensorView logits;                          ///< f32 [tokens, vocab]
  TensorView last_tokens = {};                ///< i32 [slots], or empty
};

class FusedDecoder {
 public:
  virtual ~FusedDecoder() = default;
  /// Asked every step, since the answer depends on the rows and on how long the sequences are.
  virtual bool Supports(const AttentionBatch& batch) const = 0;
  /// Embedding, all layers with their KV writes, final norm and the logits of every row.
  virtual void Run(Stream& stream, const FusedDecodeArgs& args) = 0;
};

}  // namespace gale
