// A mixture of experts (arXiv:1701.06538): a router gives each token to a few of many gated
// feed-forward networks and sums what they make of it, weighted.
#pragma once

#include <memory>
#include <string>

#include "nn/feed_forward.h"
#include "nn/linear.h"
#include "nn/mlp.h"
#include "weights/moe_config.h"

namespace gale {

/// The names that a family's checkpoints give a mixture's tensors, after the layer's own.
struct MoeNames {
  const char* router = ".gate";
  const char* gate = ".gate_proj";  ///< after ".experts.3"
  const char* up = ".up_proj";
  const char* down = ".down_proj";
  const char* shared = "";       ///< the network that every token has
  const char* shared_gate = "";  ///< one logit that weighs it; empty: none
};

struct FusedMoeConfig {
  int64_t hidden = 0;
  MoeConfig moe;
  RouterScore score = RouterScore::kSoftmax;
  bool renormalize = false;
  bool correction = false;  ///< a tensor e_score_correction_bias beside the router ranks experts
  int group_top = 1;        ///< experts that rate a group
  bool router_bias = false;
  bool expert_bias = false;
  bool stacked_experts = false;  ///< all in one tensor, with expert_bias: nn/stacked_experts.h
  Activation activation = Activation::kSilu;
  MoeNames names = {};
};

/// Experts of one layer as two stacked weights; nothing in a step waits for the host.
/// Memory: the stacked weights are copied together from the experts' tensors, once, a layer at a
/// time.
/// Cost: reads the weights of the experts that are chosen.
class FusedMoe final : public FeedForward {
 public:
  /// `name`: "model.layers.3.mlp".
  FusedMoe(ParamBuilder& builder, const QuantScheme& scheme, const FusedMoeConfig& config,
           const std::string& name);

  void Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const override;
  size_t ScratchBytes(int tokens) const override;
  bool Describe(DecoderLayerWeights&) const override { return false; }

 private:
  FusedMoeConfig config_;
  DType dtype_;
  Linear router_;
  TensorView correction_;                ///< f32 [experts] or empty
  std::unique_ptr<Linear> gate_up_;      ///< [experts * 2 * intermediate, hidden]
  std::unique_ptr<Linear> down_;         ///< [experts * hidden, intermediate]
  std::unique_ptr<Mlp> shared_;          ///< null: none
  std::unique_ptr<Linear> shared_gate_;  ///< null: none
};

}  // namespace gale
