#include "nn/attention.h"

namespace gale {
namespace {

std::vector<LinearPart> QkvParts(const AttentionConfig& config, const std::string& name) {
  const int64_t q = int64_t{config.q_heads} * config.head_dim;
  const int64_t kv = int64_t{config.kv_heads} * config.head_dim;
  if (config.fused_qkv) return {{name + ".qkv_proj", q + 2 * kv}};
  return {{name + ".q_proj", q}, {name + ".k_proj", kv}, {name + ".v_proj", kv}};
}

}  // namespace

Attention::Attention(ParamBuilder& builder, const QuantScheme& scheme,
                     const AttentionConfig& config, const RotaryEmbedding& rotary,
                     const std::string& name, int group, int layer)
    : config_(config),
      dtype_(builder.dtype()),
      rotary_(rotary),
      group_(group),
      layer_(layer),
      qkv_(builder, scheme, config.input > 0 ? config.input : config.hidden, QkvParts(config, name),
           config.qkv_bias),
      o_(builder, scheme, int64_t{config.q_heads} * config.head_dim,
         {{name + ".o_proj", config.hidden}}, config.o_bias) {
  if (config.qk_norm) {
    const auto make_norm = [&](const char* which) {
      return std::make_unique<RmsNorm>(builder, name + which, config.head_dim, config.norm_eps,
                                       config.norm_weight_offset);
    };
    q_norm_ = make_norm(".q_norm");
    k_norm_ = make_norm(".k_norm");
  }
  if (config.sinks) {
    ParamSpec spec = {{{{name + ".sinks"}, config.q_heads}}, {config.q_heads}, DType::kF32};
    spec.dummy_std = 1;
    builder.Declare(std::move(spec), &sinks_);
  }
  // A table that early Llama checkpoints store; it is computed from config.json here.
  builder.Ignore(name + ".rotary_emb.inv_freq");
}

size_t Attention::ScratchBytes(int tokens) const {
  return ScratchArena::Bytes(dtype_, {tokens, QkvWidth()}) +
         ScratchArena::Bytes(dtype_, {tokens, config_.q_heads, config_.head_dim});
}

void Attention::Forward(ForwardContext& context, const AttentionRows& rows, const TensorView& x,
                        const TensorView& out) const {
  const ScratchScope scope(*context.scratch);
  const int64_t tokens = x.dim(0);
  const int64_t heads = config_.q_heads;
  const TensorView qkv = context.scratch->Take(dtype_, {tokens, QkvWidth()});
  const TensorView mixed = context.scratch->Take(dtype_, {tokens, heads, config_.head_dim});
  AttentionBackend& attention = *context.attention[static_cast<size_t>(group_)];

  qkv_.Forward(context, x, qkv);
  QkvRopeArgs rope;
  rope.qkv = qkv;
  rope.positions = rows.positions;
  rope.inv_freq = rotary_.inv_freq();
  rope.rope_scale = rotary_.scale();
  rope.interleaved = config_.interleaved_rope;
  rope.q_heads = config_.q_heads;
  rope.kv_heads = config_.kv_heads;
  rope.head_dim = config_.head_dim;
  if (q_norm_) {
    rope.q_norm = q_norm_->weight();
    rope.k_norm = k_norm_->weight();
    rope.norm_eps = config_.norm_eps;
    rope.norm_weight_offset = config_.norm_weight_offset;
  }
  context.backend->QkvRopeWrite(*context.stream, rope, attention, layer_, rows.slot_mapping);

  TensorView q = mixed;  // the first q_heads of each row of qkv
  q.data = qkv.data;
  q.strides[0] = qkv.strides[0];
  attention.Run(*context.stream, {.layer = layer_, .q = q, .out = mixed, .sinks = sinks_});
  o_.Forward(context, TensorView(mixed.data, dtype_, {tokens, heads * config_.head_dim}), out);
}

bool Attention::Describe(DecoderLayerWeights& weights) const {
  if (config_.o_bias || config_.sinks || config_.interleaved_rope || rotary_.scale() != 1) {
    return false;
  }
  weights.qkv = qkv_.weight();
  weights.qkv_bias = qkv_.bias();
  if (q_norm_) {
    weights.q_norm = q_norm_->weight();
    weights.k_norm = k_norm_->weight();
  }
  weights.o = o_.weight();
  return true;
}

}  // namespace gale
