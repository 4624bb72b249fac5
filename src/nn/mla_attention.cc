#include "nn/mla_attention.h"

#include <cmath>
#include <cstring>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr float kNormEps = 1e-6F;  // whatever config.json says of the other norms

std::vector<LinearPart> DownParts(const MlaConfig& mla, int heads, const std::string& name) {
  const LinearPart latent = {name + ".kv_a_proj_with_mqa", mla.kv_lora_rank + mla.qk_rope_head_dim};
  if (mla.q_lora_rank > 0) return {{name + ".q_a_proj", mla.q_lora_rank}, latent};
  return {{name + ".q_proj", int64_t{heads} * mla.qk_head_dim()}, latent};
}

/// Elements [first, first + width) of each row's heads, which are `head_width` apart.
TensorView HeadsOf(const TensorView& rows, int64_t heads, int64_t head_width, int64_t first,
                   int64_t width) {
  TensorView view = rows.Slice(1, first, first + width);
  view.rank = 3;
  view.dims = {rows.dims[0], heads, width};
  view.strides = {rows.strides[0], head_width, 1};
  return view;
}

/// Copies rows of elements of `element` bytes.
struct HostMatrix {
  char* data;
  int64_t width;
  size_t element;

  char* At(int64_t row, int64_t column) const {
    return data + static_cast<size_t>(row * width + column) * element;
  }
};

}  // namespace

AttentionSpec MlaAttention::Spec(const MlaConfig& mla, int heads, const RopeConfig& rope) {
  AttentionSpec spec;
  spec.kind = KvKind::kLatent;
  spec.q_heads = heads;
  spec.kv_heads = 1;
  spec.head_dim = mla.qk_rope_head_dim + mla.kv_lora_rank;
  spec.latent_value_dim = mla.kv_lora_rank;
  spec.scale = 1 / std::sqrt(static_cast<float>(mla.qk_head_dim()));
  if (rope.type != RopeType::kDefault && rope.mscale_all_dim > 0) {
    const double temperature = YarnScale(rope.factor, rope.mscale_all_dim);
    spec.scale *= static_cast<float>(temperature * temperature);
  }
  return spec;
}

MlaAttention::MlaAttention(ParamBuilder& builder, const QuantScheme& scheme, const MlaConfig& mla,
                           int64_t hidden, int heads, const RotaryEmbedding& rotary,
                           const std::string& name, int group, int layer)
    : mla_(mla),
      heads_(heads),
      dtype_(builder.dtype()),
      rotary_(rotary),
      group_(group),
      layer_(layer),
      down_(builder, scheme, hidden, DownParts(mla, heads, name), false),
      latent_norm_(builder, name + ".kv_a_layernorm", mla.kv_lora_rank, kNormEps),
      absorbed_key_(builder, mla.qk_nope_head_dim, int64_t{heads} * mla.kv_lora_rank, heads),
      absorbed_value_(builder, mla.kv_lora_rank, int64_t{heads} * mla.v_head_dim, heads),
      o_(builder, scheme, int64_t{heads} * mla.v_head_dim, {{name + ".o_proj", hidden}}, false) {
  if (mla.q_lora_rank > 0) {
    q_norm_ =
        std::make_unique<RmsNorm>(builder, name + ".q_a_layernorm", mla.q_lora_rank, kNormEps);
    q_up_ = std::make_unique<Linear>(
        builder, scheme, mla.q_lora_rank,
        std::vector<LinearPart>{{name + ".q_b_proj", int64_t{heads} * mla.qk_head_dim()}}, false);
  }
  DeclareAbsorbed(builder, scheme, name);
  // A table that early checkpoints store; it is computed from config.json here.
  builder.Ignore(name + ".rotary_emb.inv_freq");
}

/// kv_b_proj, as plain numbers in any case: it is taken apart.
void MlaAttention::DeclareAbsorbed(ParamBuilder& builder, const QuantScheme& scheme,
                                   const std::string& name) {
  const int64_t rank = mla_.kv_lora_rank;
  const int64_t outputs = heads_ * int64_t{mla_.qk_nope_head_dim + mla_.v_head_dim};
  const LinearPart part = {name + ".kv_b_proj", outputs};
  const auto merged = std::make_shared<const MergedWeight>(
      scheme, LinearShape{rank, outputs, dtype_}, std::vector<LinearPart>{part});
  if (merged->is_quantized()) {
    merged->Declare(builder,
                    [this, merged](BindContext& context, std::vector<RawParam> params) -> Status {
                      GALE_ASSIGN_OR_RETURN(
                          const CanonicalWeight both,
                          merged->Bind(context, params, [](const QuantFormat&) { return false; }));
                      return BindAbsorbed(context, both.weight.data);
                    });
    return;
  }
  ParamSpec spec = {{{{part.name + ".weight"}, outputs}}, {outputs, rank}, dtype_};
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(rank));
  spec.on_host = true;
  std::vector<ParamSpec> specs;
  specs.push_back(std::move(spec));
  builder.Declare(std::move(specs),
                  [this](BindContext& context, std::vector<RawParam> params) -> Status {
                    GALE_RETURN_IF_ERROR(context.BringToHost(params[0]));
                    return BindAbsorbed(context, params[0].view);
                  });
}

/// `both` holds for each head the rows of W_uk, then those of W_uv.
Status MlaAttention::BindAbsorbed(BindContext& context, const TensorView& both) {
  const int64_t rank = mla_.kv_lora_rank;
  const int64_t nope = mla_.qk_nope_head_dim;
  const int64_t values = mla_.v_head_dim;
  GALE_ASSIGN_OR_RETURN(RawParam key, context.AllocateHost(dtype_, {heads_ * rank, nope}));
  GALE_ASSIGN_OR_RETURN(RawParam value, context.AllocateHost(dtype_, {heads_ * values, rank}));
  const size_t element = DTypeBytes(dtype_);
  const HostMatrix from = {static_cast<char*>(both.data), rank, element};
  const HostMatrix to_key = {static_cast<char*>(key.view.data), nope, element};
  const HostMatrix to_value = {static_cast<char*>(value.view.data), rank, element};
  for (int64_t head = 0; head < heads_; ++head) {
    const int64_t first = head * (nope + values);
    for (int64_t i = 0; i < nope; ++i) {
      for (int64_t j = 0; j < rank; ++j) {
        std::memcpy(to_key.At(head * rank + j, i), from.At(first + i, j), element);
      }
    }
    std::memcpy(to_value.At(head * values, 0), from.At(first + nope, 0),
                static_cast<size_t>(values * rank) * element);
  }
  GALE_RETURN_IF_ERROR(absorbed_key_.BindOwned(context, std::move(key)));
  return absorbed_value_.BindOwned(context, std::move(value));
}

size_t MlaAttention::ScratchBytes(int tokens) const {
  return ScratchArena::Bytes(dtype_, {tokens, QueryWidth() + CachedWidth()}) +
         ScratchArena::Bytes(dtype_, {tokens, heads_ * int64_t{mla_.qk_head_dim()}}) +
         ScratchArena::Bytes(dtype_, {tokens, heads_ + 1, CachedWidth()}) +
         ScratchArena::Bytes(dtype_, {tokens, heads_, mla_.kv_lora_rank}) +
         ScratchArena::Bytes(dtype_, {tokens, heads_, mla_.v_head_dim});
}

void MlaAttention::Forward(ForwardContext& context, const AttentionRows& rows,
                           const TensorView& x) const {
  const ScratchScope scope(*context.scratch);
  ScratchArena& scratch = *context.scratch;
  Backend& backend = *context.backend;
  AttentionBackend& attention = *context.attention[static_cast<size_t>(group_)];
  const int64_t tokens = x.dim(0);
  const int64_t rope = mla_.qk_rope_head_dim;
  const int64_t nope = mla_.qk_nope_head_dim;
  const int64_t rank = mla_.kv_lora_rank;
  const int64_t width = CachedWidth();

  const TensorView down = scratch.Take(dtype_, {tokens, QueryWidth() + width});
  down_.Forward(context, x, down);
  TensorView q = down.Slice(1, 0, QueryWidth());
  if (q_up_) {
    q_norm_->Forward(context, q, {}, q);
    const TensorView queries = scratch.Take(dtype_, {tokens, heads_ * (nope + rope)});
    q_up_->Forward(context, q, queries);
    q = queries;
  }
  const TensorView latent = down.Slice(1, QueryWidth(), QueryWidth() + rank);

  // Rows of heads [rotated | latent]: the queries, then the one key.
  const TensorView heads = scratch.Take(dtype_, {tokens, (heads_ + 1) * width});
  const TensorView key = heads.Slice(1, heads_ * width, (heads_ + 1) * width);
  RotateArgs rotate;
  rotate.positions = rows.positions;
  rotate.inv_freq = rotary_.inv_freq();
  rotate.rope_scale = rotary_.scale();
  rotate.interleaved = mla_.rope_interleave;
  rotate.x = HeadsOf(q, heads_, nope + rope, nope, rope);
  rotate.out = HeadsOf(heads, heads_, width, 0, rope);
  backend.Rotate(*context.stream, rotate);
  rotate.x = HeadsOf(down, 1, rope, QueryWidth() + rank, rope);
  rotate.out = HeadsOf(key, 1, width, 0, rope);
  backend.Rotate(*context.stream, rotate);
  latent_norm_.Forward(context, latent, {}, key.Slice(1, rope, width));
  absorbed_key_.ForwardBatched(context, HeadsOf(q, heads_, nope + rope, 0, nope),
                               HeadsOf(heads, heads_, width, rope, rank));

  attention.WriteKv(*context.stream, {.layer = layer_,
                                      .k = HeadsOf(key, 1, width, 0, width),
                                      .v = {},
                                      .slot_mapping = rows.slot_mapping});
  const TensorView mixed = scratch.Take(dtype_, {tokens, heads_, rank});
  attention.Run(*context.stream,
                {.layer = layer_, .q = HeadsOf(heads, heads_, width, 0, width), .out = mixed});
  const TensorView values = scratch.Take(dtype_, {tokens, heads_, mla_.v_head_dim});
  absorbed_value_.ForwardBatched(context, mixed, values);
  o_.Forward(context, TensorView(values.data, dtype_, {tokens, int64_t{heads_} * mla_.v_head_dim}),
             x);
}

}  // namespace gale
