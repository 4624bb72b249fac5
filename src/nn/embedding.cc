#include "nn/embedding.h"

#include <cmath>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr char kTable[] = "model.embed_tokens.weight";

}  // namespace

Embedding::Embedding(ParamBuilder& builder, const QuantScheme& scheme,
                     const EmbeddingConfig& config)
    : hidden_(config.hidden), scale_(config.scale) {
  ParamSpec spec = {{{{kTable}, config.vocab}}, {config.vocab, config.hidden}, builder.dtype()};
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(config.hidden));
  const LinearShape shape = {config.hidden, config.vocab, builder.dtype()};
  spec.may_be_blocks = true;
  // A quantized head is a tensor of its own, whatever the two were before.
  if (!config.tied || scheme.LayoutOf(kHeadName) != nullptr) {
    builder.Declare({std::move(spec)},
                    [this](BindContext& context, std::vector<RawParam> params) -> Status {
                      return PlaceTable(context, std::move(params[0]));
                    });
    head_ = std::make_unique<Linear>(
        builder, scheme, config.hidden,
        std::vector<LinearPart>{{std::string(kHeadName), config.vocab}}, false);
    return;
  }
  // Files name the one tensor by either end, or hold it twice.
  spec.parts[0].names.push_back(std::string(kHeadName) + ".weight");
  head_ = std::make_unique<Linear>(builder, config.hidden, config.vocab);
  const QuantFormat made_into = scheme.MadeInto(shape, kHeadName);
  spec.use = WeightUse::kLinearAndTable;
  spec.made_into = made_into;
  spec.on_host = made_into.code != BlockCode::kNone;
  builder.Declare({std::move(spec)},
                  [this, made_into](BindContext& context, std::vector<RawParam> params) -> Status {
                    return BindTied(context, made_into, std::move(params[0]));
                  });
}

/// One memory for both ends where the device reads it in both places.
Status Embedding::BindTied(BindContext& context, const QuantFormat& made_into, RawParam param) {
  if (param.blocks == GgmlType::kNone && made_into.code != BlockCode::kNone) {
    GALE_RETURN_IF_ERROR(context.BringToHost(param));
    const bool is_for_both =
        made_into.code == BlockCode::kGgmlBlock && context.backend.EmbedsBlocks(made_into.ggml);
    if (!is_for_both) {
      GALE_RETURN_IF_ERROR(head_->BindRounded(context, made_into, param.view));
      return PlaceTable(context, std::move(param));
    }
    GALE_ASSIGN_OR_RETURN(CanonicalWeight made, RoundToNearest(context, param.view, made_into));
    param = std::move(made.memory);
  }
  const LinearWeight weight = PlainOrBlocks(param, hidden_);
  GALE_RETURN_IF_ERROR(head_->Bind(context, weight));
  const TensorView& packed = head_->weight();
  const bool is_copy = packed.data != param.view.data;
  if (!context.backend.info().is_host_memory && is_copy && packed.dtype == weight.data.dtype &&
      weight.format.code == BlockCode::kNone) {
    table_ = packed;  // the device's own copy
    return {};
  }
  return PlaceTable(context, std::move(param));
}

Status Embedding::PlaceTable(BindContext& context, RawParam param) {
  blocks_ = param.blocks;
  GALE_ASSIGN_OR_RETURN(table_, context.Place(std::move(param)));
  if (blocks_ != GgmlType::kNone) table_ = BlockRows(table_, hidden_);
  return {};
}

void Embedding::Embed(ForwardContext& context, const TensorView& tokens,
                      const TensorView& last_tokens, const TensorView& out) const {
  context.backend->Embedding(*context.stream, {.tokens = tokens,
                                               .table = table_,
                                               .out = out,
                                               .last_tokens = last_tokens,
                                               .scale = scale_,
                                               .blocks = blocks_});
}

void Embedding::Logits(ForwardContext& context, const TensorView& rows,
                       const TensorView& logits) const {
  head_->Forward(context, rows, logits);
}

}  // namespace gale
