// The decoder-only transformer with pre-norm, gated feed-forward layers and rotary positions: what
// Llama and its descendants share. An architecture is a set of traits, not a copy. Layer L3.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "nn/attention.h"
#include "nn/embedding.h"
#include "nn/mlp.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "quant/quant_scheme.h"
#include "weights/hf_config.h"
#include "weights/param_builder.h"

namespace gale {

/// What sets one architecture of the family apart from the others.
struct DecoderTraits {
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
};

class Decoder : public Model {
 public:
  Decoder(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
          const DecoderTraits& traits);

  std::vector<AttentionGroup> attention_groups() const override;
  DType dtype() const override { return dtype_; }
  int hidden_size() const override { return config_.hidden_size; }
  int vocab_size() const override { return config_.vocab_size; }
  size_t ScratchBytes(int tokens) const override;
  size_t mapped_bytes() const override { return store_->mapped_bytes; }
  size_t private_bytes() const override { return store_->private_bytes; }

  void Embed(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) override;
  void Forward(ForwardContext& context, const ForwardBatch& batch, TensorView hidden) override;
  std::optional<DecoderDescription> Describe() const override;
  void ComputeLogits(ForwardContext& context, TensorView rows, TensorView logits) override;

 private:
  struct Layer {
    Layer(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
          const DecoderTraits& traits, int index);
    RmsNorm input_norm;
    Attention attention;
    RmsNorm mlp_norm;
    Mlp mlp;
  };

  HfConfig config_;
  DecoderTraits traits_;
  DType dtype_;
  Numerics numerics_;
  std::shared_ptr<WeightStore> store_;
  Embedding embedding_;
  RotaryEmbedding rotary_;
  std::vector<std::unique_ptr<Layer>> layers_;
  RmsNorm final_norm_;
};

}  // namespace gale
