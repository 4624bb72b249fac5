#include "models/sparse_layers.h"

#include <fmt/format.h>

#include "nn/mlp.h"

namespace gale {

MakeFeedForward SparseLayers(const HfConfig& config, const FusedMoeConfig& moe, const char* block) {
  const MlpConfig dense = {.hidden = config.hidden_size, .intermediate = config.intermediate_size};
  return [=](ParamBuilder& builder, const QuantScheme& scheme,
             int layer) -> std::unique_ptr<FeedForward> {
    const std::string name = fmt::format("model.layers.{}.{}", layer, block);
    if (!moe.moe.is_sparse[static_cast<size_t>(layer)]) {
      return std::make_unique<Mlp>(builder, scheme, dense, name);
    }
    return std::make_unique<FusedMoe>(builder, scheme, moe, name);
  };
}

}  // namespace gale
