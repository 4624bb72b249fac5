#include "nn/fused_moe.h"

#include <fmt/format.h>

#include "nn/stacked_experts.h"

namespace gale {
namespace {

/// Each expert's parts, expert by expert.
std::vector<LinearPart> ExpertParts(const std::string& name, int experts,
                                    std::initializer_list<const char*> parts, int64_t out) {
  std::vector<LinearPart> list;
  for (int e = 0; e < experts; ++e) {
    for (const char* part : parts) {
      list.push_back({fmt::format("{}.experts.{}{}", name, e, part), out});
    }
  }
  return list;
}

}  // namespace

FusedMoe::FusedMoe(ParamBuilder& builder, const QuantScheme& scheme, const FusedMoeConfig& config,
                   const std::string& name)
    : config_(config),
      dtype_(builder.dtype()),
      // Routers decide by small differences and are small: no format quantizes them.
      router_(builder, PlainScheme(), config.hidden,
              {{name + config.names.router, config.moe.num_experts}}, config.router_bias) {
  const MoeConfig& moe = config.moe;
  const MoeNames& names = config.names;
  if (config.correction) {
    ParamSpec spec = {{{{name + names.router + ".e_score_correction_bias"}, moe.num_experts}},
                      {moe.num_experts},
                      DType::kF32};
    constexpr float kDummyStd = 0.02F;
    spec.dummy_std = kDummyStd;
    builder.Declare(std::move(spec), &correction_);
  }
  if (config.stacked_experts) {
    gate_up_ = DeclareStackedExperts(builder, scheme, name + ".experts.gate_up_proj",
                                     {.experts = moe.num_experts,
                                      .in = config.hidden,
                                      .out = 2 * moe.intermediate_size,
                                      .is_gate_up = true});
    down_ = DeclareStackedExperts(builder, scheme, name + ".experts.down_proj",
                                  {.experts = moe.num_experts,
                                   .in = moe.intermediate_size,
                                   .out = config.hidden,
                                   .is_gate_up = false});
  } else {
    gate_up_ = std::make_unique<Linear>(
        builder, scheme, config.hidden,
        ExpertParts(name, moe.num_experts, {names.gate, names.up}, moe.intermediate_size),
        config.expert_bias, moe.num_experts);
    down_ =
        std::make_unique<Linear>(builder, scheme, moe.intermediate_size,
                                 ExpertParts(name, moe.num_experts, {names.down}, config.hidden),
                                 config.expert_bias, moe.num_experts);
  }
  if (moe.shared_intermediate_size == 0) return;
  shared_ = std::make_unique<Mlp>(
      builder, scheme,
      MlpConfig{.hidden = config.hidden, .intermediate = moe.shared_intermediate_size},
      name + names.shared);
  if (*names.shared_gate == '\0') return;
  shared_gate_ =
      std::make_unique<Linear>(builder, PlainScheme(), config.hidden,
                               std::vector<LinearPart>{{name + names.shared_gate, 1}}, false);
}

void FusedMoe::Forward(ForwardContext& context, const TensorView& x, const TensorView& out) const {
  const MoeConfig& moe = config_.moe;
  Backend& backend = *context.backend;
  ScratchArena& scratch = *context.scratch;
  const ScratchScope scope(scratch);
  const int64_t tokens = x.dim(0);
  const int64_t picks = tokens * moe.top_k;

  MoeRouteArgs route = {.logits = scratch.Take(DType::kF32, {tokens, moe.num_experts}),
                        .correction = correction_,
                        .score = config_.score,
                        .num_groups = moe.num_groups,
                        .top_groups = moe.top_groups,
                        .group_top = config_.group_top,
                        .renormalize = config_.renormalize,
                        .scale = moe.scale,
                        .experts = scratch.Take(DType::kI32, {tokens, moe.top_k}),
                        .weights = scratch.Take(DType::kF32, {tokens, moe.top_k}),
                        .offsets = scratch.Take(DType::kI32, {moe.num_experts + 1}),
                        .picks = scratch.Take(DType::kI32, {picks}),
                        .tokens = scratch.Take(DType::kI32, {picks})};
  router_.Forward(context, x, route.logits);
  backend.MoeRoute(*context.stream, route);

  // Between the two products rows lie by expert; the second puts them back in the order of picks.
  const TensorView gate_up = scratch.Take(dtype_, {picks, 2 * int64_t{moe.intermediate_size}});
  const TensorView product = scratch.Take(dtype_, {picks, moe.intermediate_size});
  const TensorView expert_out = scratch.Take(dtype_, {picks, config_.hidden});
  gate_up_->Forward(context, {.offsets = route.offsets, .x_rows = route.tokens, .out_rows = {}}, x,
                    gate_up);
  backend.GatedActivation(*context.stream, {.gate_up = gate_up,
                                            .out = product,
                                            .activation = config_.activation,
                                            .alpha = moe.swiglu_alpha,
                                            .limit = moe.swiglu_limit});
  down_->Forward(context, {.offsets = route.offsets, .x_rows = {}, .out_rows = route.picks},
                 product, expert_out);

  MoeCombineArgs combine;
  combine.x = expert_out;
  combine.weights = route.weights;
  combine.out = out;
  if (shared_ != nullptr) {
    combine.shared = scratch.Take(dtype_, {tokens, config_.hidden});
    shared_->Forward(context, x, combine.shared);
  }
  if (shared_gate_ != nullptr) {
    combine.shared_gate = scratch.Take(DType::kF32, {tokens, 1});
    shared_gate_->Forward(context, x, combine.shared_gate);
  }
  backend.MoeCombine(*context.stream, combine);
}

size_t FusedMoe::ScratchBytes(int tokens) const {
  const MoeConfig& moe = config_.moe;
  const int64_t picks = int64_t{tokens} * moe.top_k;
  size_t bytes = ScratchArena::Bytes(DType::kF32, {tokens, moe.num_experts}) +
                 2 * ScratchArena::Bytes(DType::kI32, {tokens, moe.top_k}) +
                 ScratchArena::Bytes(DType::kI32, {moe.num_experts + 1}) +
                 2 * ScratchArena::Bytes(DType::kI32, {picks}) +
                 ScratchArena::Bytes(dtype_, {picks, 2 * int64_t{moe.intermediate_size}}) +
                 ScratchArena::Bytes(dtype_, {picks, moe.intermediate_size}) +
                 ScratchArena::Bytes(dtype_, {picks, config_.hidden});
  if (shared_ != nullptr) {
    bytes += ScratchArena::Bytes(dtype_, {tokens, config_.hidden}) + shared_->ScratchBytes(tokens);
  }
  if (shared_gate_ != nullptr) bytes += ScratchArena::Bytes(DType::kF32, {tokens, 1});
  return bytes;
}

}  // namespace gale
