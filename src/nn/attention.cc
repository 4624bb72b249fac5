#include "nn/attention.h"

namespace gale {

Attention::Attention(ParamBuilder& builder, const QuantScheme& scheme,
                     const AttentionConfig& config, const std::string& name, int group, int layer)
    : config_(config),
      group_(group),
      layer_(layer),
      qkv_(builder, scheme, config.hidden,
           {{name + ".q_proj", int64_t{config.q_heads} * config.head_dim},
            {name + ".k_proj", int64_t{config.kv_heads} * config.head_dim},
            {name + ".v_proj", int64_t{config.kv_heads} * config.head_dim}},
           config.qkv_bias),
      o_(builder, scheme, int64_t{config.q_heads} * config.head_dim,
         {{name + ".o_proj", config.hidden}}, config.o_bias) {
  if (config.qk_norm) {
    q_norm_ =
        std::make_unique<RmsNorm>(builder, name + ".q_norm", config.head_dim, config.norm_eps);
    k_norm_ =
        std::make_unique<RmsNorm>(builder, name + ".k_norm", config.head_dim, config.norm_eps);
  }
  // A table that early Llama checkpoints store; it is computed from config.json here.
  builder.Ignore(name + ".rotary_emb.inv_freq");
}

void Attention::Forward(ForwardContext& context, const RotaryEmbedding& rotary,
                        const AttentionIo& io, const TensorView& x) const {
  AttentionBackend& attention = *context.attention[group_];
  qkv_.Forward(context, x, io.qkv);
  QkvRopeArgs rope;
  rope.qkv = io.qkv;
  rope.positions = io.positions;
  rope.inv_freq = rotary.inv_freq();
  rope.q_heads = config_.q_heads;
  rope.kv_heads = config_.kv_heads;
  rope.head_dim = config_.head_dim;
  if (q_norm_) {
    rope.q_norm = q_norm_->weight();
    rope.k_norm = k_norm_->weight();
    rope.norm_eps = config_.norm_eps;
  }
  context.backend->QkvRopeWrite(*context.stream, rope, attention, layer_, io.slot_mapping);

  TensorView q = io.heads;  // the first q_heads of each row of qkv
  q.data = io.qkv.data;
  q.strides[0] = io.qkv.strides[0];
  attention.Run(*context.stream, {.layer = layer_, .q = q, .out = io.heads});
  const TensorView rows(io.heads.data, io.heads.dtype,
                        {io.heads.dim(0), io.heads.dim(1) * io.heads.dim(2)});
  o_.Forward(context, rows, x);
}

void Attention::Describe(DecoderLayerWeights& weights) const {
  weights.qkv = qkv_.weight();
  weights.qkv_bias = qkv_.bias();
  if (q_norm_) {
    weights.q_norm = q_norm_->weight();
    weights.k_norm = k_norm_->weight();
  }
  weights.o = o_.weight();
}

}  // namespace gale
