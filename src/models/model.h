// A model: weights and the order of layers. Knows nothing of requests, samples nothing, owns no
// cache. Layer L3 of the compute column; one file per architecture beside this one.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "nn/forward_context.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Layers that share one KV group; `spec.layers` of them, in the model's order.
struct AttentionGroup {
  AttentionSpec spec;
};

/// What Forward keeps of some layers' outputs, for heads that draft from them (arXiv:2503.01840).
struct LayerCapture {
  std::span<const int> layers;  ///< ascending; none of them the last, whose output is `hidden`
  TensorView states;            ///< [layers, tokens, hidden], of the model's dtype
};

/// One step's tokens, flat over all sequences.
struct ForwardBatch {
  TensorView token_ids;                   ///< i32 [tokens]; ids or ~slot, as in EmbeddingArgs
  TensorView last_tokens;                 ///< i32 [slots], or empty
  TensorView positions;                   ///< i32 [tokens]
  std::vector<AttentionBatch> attention;  ///< [group]
  LayerCapture capture = {};
};

class Model {
 public:
  virtual ~Model() = default;

  virtual std::vector<AttentionGroup> attention_groups() const = 0;
  virtual DType dtype() const = 0;  ///< of activations
  virtual int hidden_size() const = 0;
  virtual int vocab_size() const = 0;
  /// Upper bound of the scratch bytes that one step of `tokens` rows takes.
  virtual size_t ScratchBytes(int tokens) const = 0;
  /// Bytes of weights used in place from mapped files, and held in private memory.
  virtual size_t mapped_bytes() const = 0;
  virtual size_t private_bytes() const = 0;

  virtual void Embed(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) = 0;
  /// All layers and the final norm; `hidden` [tokens, hidden] in and out.
  virtual void Forward(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) = 0;
  /// The model as plain data, for a back end that fuses it; nothing when it is not of that kind.
  virtual std::optional<DecoderDescription> Describe() const { return std::nullopt; }
  /// rows [n, hidden] -> logits f32 [n, vocab].
  virtual void ComputeLogits(ForwardContext& context, TensorView rows, TensorView logits) = 0;
};

}  // namespace gale
