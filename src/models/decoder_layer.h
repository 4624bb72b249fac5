// One layer of a Decoder: attention and a feed-forward part, each behind a norm, each added to the
// residual. Layer L3.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nn/feed_forward.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "nn/self_attention.h"
#include "quant/quant_scheme.h"
#include "weights/hf_config.h"
#include "weights/param_builder.h"

namespace gale {

/// Names of a layer's norms in checkpoints: before attention and feed-forward, and after them,
/// before their output is added to the residual (empty: there is none).
struct LayerNorms {
  const char* attention = "input_layernorm";
  const char* after_attention = "";
  const char* feed_forward = "post_attention_layernorm";
  const char* after_feed_forward = "";
};

/// Makes the feed-forward part of one layer.
using MakeFeedForward = std::function<std::unique_ptr<FeedForward>(
    ParamBuilder& builder, const QuantScheme& scheme, int layer)>;

/// What sets one architecture of the family apart from the others, beside what config.json says.
struct DecoderTraits {
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool fused_qkv = false;      ///< checkpoints have q, k and v in one tensor
  bool fused_gate_up = false;  ///< checkpoints have gate and up in one tensor
  bool qk_norm = false;
  bool sinks = false;             ///< a logit for each head in attention's softmax
  bool interleaved_rope = false;  ///< neighbouring elements of a head are rotated as pairs
  LayerNorms norms = {};
  float norm_weight_offset = 0;  ///< 1: checkpoints store how much a norm's weight differs from 1
  float embedding_scale = 1;
  std::vector<int> windows = {};  ///< [layers] positions that the layer sees; 0: all. Empty: all 0
  MakeFeedForward feed_forward = {};  ///< empty: an Mlp in each layer
};

/// Where a layer stands in the model and in its attention group.
struct LayerPlace {
  int index = 0;
  int group = 0;
  int index_in_group = 0;
};

class DecoderLayer {
 public:
  /// `rotary` outlives this.
  DecoderLayer(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
               const DecoderTraits& traits, const RotaryEmbedding& rotary, const LayerPlace& place);

  size_t ScratchBytes(int tokens) const;
  /// `residual` [tokens, hidden] lacks the output `x` of the layer before, which is added to it
  /// first; what `x` holds before the first layer is not read. Leaves its own output in `x`
  /// likewise. `input`, unless it is empty, gets a copy of the sum that the layer begins with.
  void Forward(ForwardContext& context, const AttentionRows& rows, const TensorView& residual,
               const TensorView& x, const TensorView& input = {}) const;
  int group() const { return attention_->group(); }
  /// False when the layer is not one that a back end can fuse.
  bool Describe(DecoderLayerWeights& weights) const;

 private:
  bool is_first_;
  bool has_plain_norms_;
  RmsNorm attention_norm_;
  std::unique_ptr<SelfAttention> attention_;
  std::unique_ptr<RmsNorm> after_attention_;  ///< may be null
  RmsNorm feed_forward_norm_;
  std::unique_ptr<FeedForward> feed_forward_;
  std::unique_ptr<RmsNorm> after_feed_forward_;  ///< may be null
};

}  // namespace gale
