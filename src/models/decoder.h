// The decoder-only transformer with rotary positions: what Llama and its descendants share. An
// architecture is a set of traits, not a copy. Layer L3.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "models/decoder_layer.h"
#include "models/model.h"
#include "nn/embedding.h"
#include "nn/rms_norm.h"
#include "nn/rotary_embedding.h"
#include "quant/quant_scheme.h"
#include "weights/hf_config.h"
#include "weights/param_builder.h"

namespace gale {

/// DecoderTraits::windows: the layers that config.json's layer_types name, or, where it has none,
/// those for which `has_window(layer)` holds. A window as long as the context is none.
std::vector<int> LayerWindows(const HfConfig& config,
                              const std::function<bool(int layer)>& has_window);
/// Qwen2's and Qwen3's rule: all layers from max_window_layers on, if any at all.
std::vector<int> QwenWindows(const HfConfig& config);

class Decoder : public Model {
 public:
  Decoder(ParamBuilder& builder, const QuantScheme& scheme, const HfConfig& config,
          const DecoderTraits& traits);

  /// One group for each length of window, in the order of their first layers.
  std::vector<AttentionGroup> attention_groups() const override { return groups_; }
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
  LayerPlace AddToGroup(int layer, int window);
  AttentionSpec MakeSpec(int window) const;

  HfConfig config_;
  bool has_plain_ends_;  ///< embedding and final norm as a fused decoder knows them
  DType dtype_;
  Numerics numerics_;
  std::shared_ptr<WeightStore> store_;
  Embedding embedding_;
  RotaryEmbedding rotary_;
  std::unique_ptr<RotaryEmbedding> sliding_rotary_;  ///< of layers with a window; null: the other
  std::vector<AttentionGroup> groups_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  RmsNorm final_norm_;
};

}  // namespace gale
