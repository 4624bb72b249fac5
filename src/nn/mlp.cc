#include "nn/mlp.h"

namespace gale {
namespace {

std::vector<LinearPart> GateUpParts(const MlpConfig& config, const std::string& name) {
  if (config.fused_gate_up) return {{name + ".gate_up_proj", 2 * config.intermediate}};
  return {{name + ".gate_proj", config.intermediate}, {name + ".up_proj", config.intermediate}};
}

}  // namespace

Mlp::Mlp(ParamBuilder& builder, const QuantScheme& scheme, const MlpConfig& config,
         const std::string& name)
    : config_(config),
      dtype_(builder.dtype()),
      gate_up_(builder, scheme, config.hidden, GateUpParts(config, name), config.bias),
      down_(builder, scheme, config.intermediate, {{name + ".down_proj", config.hidden}},
            config.bias) {}

size_t Mlp::ScratchBytes(int tokens) const {
  return ScratchArena::Bytes(dtype_, {tokens, 2 * config_.intermediate}) +
         ScratchArena::Bytes(dtype_, {tokens, config_.intermediate});
}

void Mlp::Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const {
  const ScratchScope scope(*context.scratch);
  const int64_t tokens = x.dim(0);
  const TensorView gate_up = context.scratch->Take(dtype_, {tokens, 2 * config_.intermediate});
  const TensorView product = context.scratch->Take(dtype_, {tokens, config_.intermediate});
  gate_up_.ForwardGated(context, x, {gate_up, product, config_.activation});
  down_.Forward(context, product, out);
}

bool Mlp::Describe(DecoderLayerWeights& weights) const {
  if (config_.bias || config_.activation != Activation::kSilu) return false;
  weights.gate_up = gate_up_.weight();
  weights.down = down_.weight();
  return true;
}

}  // namespace gale
