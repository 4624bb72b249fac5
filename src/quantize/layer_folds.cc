#include "quantize/layer_folds.h"

#include <numeric>

#include <fmt/format.h>

namespace gale {
namespace {

/// The shape of NAME.weight; null when there is none.
const std::vector<int64_t>* ShapeOf(const Checkpoint& checkpoint, const std::string& name) {
  const CheckpointTensor* tensor = checkpoint.Find(name + ".weight");
  return tensor == nullptr ? nullptr : &tensor->shape;
}

ProducerMap Identity(int64_t in) {
  ProducerMap map(static_cast<size_t>(in));
  std::iota(map.begin(), map.end(), 0);
  return map;
}

std::optional<Fold> FoldIntoNorm(std::string norm, int64_t in, const Checkpoint& checkpoint) {
  const std::vector<int64_t>* shape = ShapeOf(checkpoint, norm);
  if (shape == nullptr || *shape != std::vector<int64_t>{in}) return std::nullopt;
  return Fold{.producer = std::move(norm), .is_norm = true, .map = Identity(in)};
}

/// The heads that share a value read the same rows of it.
ProducerMap ValueOfHeads(const HfConfig& config) {
  const int64_t dim = config.head_dim;
  const int64_t sharing = config.num_heads / config.num_kv_heads;
  ProducerMap map(static_cast<size_t>(config.num_heads * dim));
  for (int64_t i = 0; i < std::ssize(map); ++i) {
    map[static_cast<size_t>(i)] = i / dim / sharing * dim + i % dim;
  }
  return map;
}

/// `fused` holds other rows first, so many.
std::optional<Fold> FoldIntoRows(const std::string& alone, const std::string& fused,
                                 int64_t first_row, int64_t rows, ProducerMap map,
                                 const Checkpoint& checkpoint) {
  Fold fold{.producer = alone, .map = std::move(map)};
  const std::vector<int64_t>* shape = ShapeOf(checkpoint, alone);
  if (shape == nullptr) {
    fold.producer = fused;
    fold.first_row = first_row;
    shape = ShapeOf(checkpoint, fused);
  }
  if (shape == nullptr || shape->size() != 2 || (*shape)[0] != fold.first_row + rows) {
    return std::nullopt;
  }
  return fold;
}

}  // namespace

std::optional<Fold> FindFold(std::span<const std::string> names, int64_t in, const HfConfig& config,
                             const Checkpoint& checkpoint) {
  const std::string& first = names.front();
  const size_t dot = first.rfind('.');
  const size_t module_dot = dot == std::string::npos ? dot : first.rfind('.', dot - 1);
  if (module_dot == std::string::npos) return std::nullopt;
  const std::string part = first.substr(dot + 1);
  const std::string module = first.substr(0, dot);        // "model.layers.3.mlp"
  const std::string layer = first.substr(0, module_dot);  // "model.layers.3"
  const bool is_attention = module.ends_with(".self_attn");
  if (is_attention && (part == "q_proj" || part == "qkv_proj")) {
    return FoldIntoNorm(layer + ".input_layernorm", in, checkpoint);
  }
  if (module.ends_with(".mlp") && (part == "gate_proj" || part == "gate_up_proj")) {
    const std::string sandwiched = layer + ".pre_feedforward_layernorm";
    const bool is_sandwiched = ShapeOf(checkpoint, sandwiched) != nullptr;
    return FoldIntoNorm(is_sandwiched ? sandwiched : layer + ".post_attention_layernorm", in,
                        checkpoint);
  }
  if (is_attention && part == "o_proj") {
    const int64_t kv = int64_t{config.num_kv_heads} * config.head_dim;
    const int64_t q = int64_t{config.num_heads} * config.head_dim;
    if (in != q) return std::nullopt;
    return FoldIntoRows(module + ".v_proj", module + ".qkv_proj", q + kv, kv, ValueOfHeads(config),
                        checkpoint);
  }
  if (module.ends_with(".mlp") && part == "down_proj") {
    return FoldIntoRows(module + ".up_proj", module + ".gate_up_proj", in, in, Identity(in),
                        checkpoint);
  }
  return std::nullopt;
}

}  // namespace gale
