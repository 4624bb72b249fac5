// The vocabulary's two ends: token ids to hidden states, and hidden states to logits.
#pragma once

#include "nn/forward_context.h"
#include "nn/linear.h"
#include "weights/param_builder.h"

namespace gale {

struct EmbeddingConfig {
  int64_t vocab = 0;
  int64_t hidden = 0;
  bool tied = false;  ///< one tensor serves both ends (arXiv:1608.05859); it is in memory once
  float scale = 1;    ///< of hidden states; logits have none
};

class Embedding {
 public:
  Embedding(ParamBuilder& builder, const QuantScheme& scheme, const EmbeddingConfig& config);
  Embedding(const Embedding&) = delete;
  Embedding& operator=(const Embedding&) = delete;

  /// tokens and last_tokens as in EmbeddingArgs -> out [tokens, hidden].
  void Embed(ForwardContext& context, const TensorView& tokens, const TensorView& last_tokens,
             const TensorView& out) const;
  /// rows [n, hidden] -> logits f32 [n, vocab].
  void Logits(ForwardContext& context, const TensorView& rows, const TensorView& logits) const;
  /// Fills in both ends, for a back end that fuses the whole decoder.
  void Describe(DecoderDescription& decoder) const {
    decoder.embedding = table_;
    decoder.lm_head = head_->weight();
  }

 private:
  Status BindTied(BindContext& context, const QuantFormat& made_into, RawParam param);
  Status PlaceTable(BindContext& context, RawParam param);

  int64_t hidden_;
  TensorView table_;                   ///< [vocab, hidden]
  GgmlType blocks_ = GgmlType::kNone;  ///< of table_
  float scale_;
  std::unique_ptr<Linear> head_;
};

}  // namespace gale
