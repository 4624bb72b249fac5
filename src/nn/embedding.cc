#include "nn/embedding.h"

#include <cmath>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr char kTable[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head";

}  // namespace

Embedding::Embedding(ParamBuilder& builder, const QuantScheme& scheme,
                     const EmbeddingConfig& config)
    : scale_(config.scale) {
  ParamSpec spec = {{{{kTable}, config.vocab}}, {config.vocab, config.hidden}, builder.dtype()};
  spec.dummy_std = 1 / std::sqrt(static_cast<float>(config.hidden));
  if (!config.tied) {
    builder.Declare(std::move(spec), &table_);
    head_ = std::make_unique<Linear>(builder, scheme, config.hidden,
                                     std::vector<LinearPart>{{kHead, config.vocab}}, false);
    return;
  }
  // Files name the one tensor by either end, or hold it twice.
  spec.parts[0].names.push_back(std::string(kHead) + ".weight");
  head_ = std::make_unique<Linear>(builder, config.hidden, config.vocab);
  builder.Declare(
      {std::move(spec)},
      [this, config](BindContext& context, std::vector<RawParam> params) -> Status {
        const TensorView& table = params[0].view;
        GALE_RETURN_IF_ERROR(head_->Bind(
            context, {{BlockCode::kNone, table.dtype}, config.hidden, config.vocab, table}));
        const TensorView& packed = head_->weight();
        if (!context.backend.info().is_host_memory && packed.dtype == table.dtype) {
          table_ = packed;  // the device's own copy
          return {};
        }
        GALE_ASSIGN_OR_RETURN(table_, context.Place(std::move(params[0])));
        return {};
      });
}

void Embedding::Embed(ForwardContext& context, const TensorView& tokens,
                      const TensorView& last_tokens, const TensorView& out) const {
  context.backend->Embedding(
      *context.stream,
      {.tokens = tokens, .table = table_, .out = out, .last_tokens = last_tokens, .scale = scale_});
}

void Embedding::Logits(ForwardContext& context, const TensorView& rows,
                       const TensorView& logits) const {
  head_->Forward(context, rows, logits);
}

}  // namespace gale
