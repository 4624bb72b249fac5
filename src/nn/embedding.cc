#include "nn/embedding.h"

#include <cmath>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr char kTable[] = "model.embed_tokens.weight";

/// The table as the head's weight, which is in no format but its own or ggml's blocks.
LinearWeight TableWeight(const RawParam& table, const LinearShape& shape) {
  if (table.blocks == GgmlType::kNone) {
    return {{BlockCode::kNone, table.view.dtype}, shape.in, shape.out, table.view};
  }
  return {{BlockCode::kGgmlBlock, DType::kU8, table.blocks},
          shape.in,
          shape.out,
          BlockRows(table.view, shape.in)};
}

}  // namespace

Embedding::Embedding(ParamBuilder& builder, const QuantScheme& scheme,
                     const EmbeddingConfig& config)
    : hidden_(config.hidden), scale_(config.scale) {
  ParamSpec spec = {{{{kTable}, config.vocab}}, {config.vocab, config.hidden}, builder.dtype()};
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(config.hidden));
  const LinearShape shape = {config.hidden, config.vocab, builder.dtype()};
  spec.may_be_blocks = scheme.Params(shape)[0].may_be_blocks;
  if (!config.tied) {
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
  const GgmlType quantize_as = scheme.QuantizedType(shape, kHeadName);
  spec.use = WeightUse::kLinearAndTable;
  spec.quantize_as = quantize_as;
  spec.on_host = quantize_as != GgmlType::kNone;
  builder.Declare(
      {std::move(spec)},
      [this, shape, quantize_as](BindContext& context, std::vector<RawParam> params) -> Status {
        if (quantize_as != GgmlType::kNone && params[0].blocks == GgmlType::kNone) {
          GALE_ASSIGN_OR_RETURN(params[0], context.Quantize(std::move(params[0]), quantize_as));
        }
        const LinearWeight weight = TableWeight(params[0], shape);
        GALE_RETURN_IF_ERROR(head_->Bind(context, weight));
        const TensorView& packed = head_->weight();
        const bool is_copy = packed.data != params[0].view.data;
        if (!context.backend.info().is_host_memory && is_copy &&
            packed.dtype == weight.data.dtype && weight.format.code == BlockCode::kNone) {
          table_ = packed;  // the device's own copy
          return {};
        }
        return PlaceTable(context, std::move(params[0]));
      });
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
