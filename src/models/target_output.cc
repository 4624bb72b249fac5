#include "models/target_output.h"

#include <cstring>

#include <fmt/format.h>

#include "base/status_macros.h"
#include "models/model_source.h"
#include "weights/weight_loader.h"

namespace gale {

DraftVocabulary::DraftVocabulary(ParamBuilder& builder, const std::string& name, int size,
                                 bool is_offset, int target_vocab)
    : size_(size) {
  if (name.empty()) return;
  ParamSpec spec = {{{{name}, size}}, {size}, DType::kI64};
  spec.on_host = true;
  builder.Declare(
      {std::move(spec)},
      [this, name, is_offset, target_vocab](BindContext& context,
                                            std::vector<RawParam> params) -> Status {
        GALE_RETURN_IF_ERROR(context.BringToHost(params[0]));
        for (int64_t i = 0; i < size_; ++i) {
          const int64_t id = params[0].view.As<int64_t>()[i] + (is_offset ? i : 0);
          if (id < 0 || id >= target_vocab) {
            return MakeError(ErrorCode::kDataCorrupt,
                             fmt::format("{}: entry {} stands for id {}; expected ids below the "
                                         "target's vocabulary of {}",
                                         name, i, id, target_vocab));
          }
          ids_.push_back(static_cast<int32_t>(id));
        }
        GALE_ASSIGN_OR_RETURN(RawParam table, context.AllocateHost(DType::kI32, {size_}));
        std::memcpy(table.view.data, ids_.data(), table.view.Bytes());
        GALE_ASSIGN_OR_RETURN(device_ids_, context.Place(std::move(table)));
        return {};
      });
}

namespace {

/// Rows `ids` of `matrix`, in host memory.
Result<RawParam> PickRows(BindContext& context, const TensorView& matrix,
                          const std::vector<int32_t>& ids) {
  GALE_ASSIGN_OR_RETURN(RawParam picked,
                        context.AllocateHost(matrix.dtype, {std::ssize(ids), matrix.dim(1)}));
  const size_t bytes = matrix.Rows(0, 1).Bytes();
  for (int64_t i = 0; i < std::ssize(ids); ++i) {
    const int32_t id = ids[static_cast<size_t>(i)];
    std::memcpy(picked.view.Rows(i, i + 1).data, matrix.Rows(id, id + 1).data, bytes);
  }
  return picked;
}

}  // namespace

Result<std::unique_ptr<TargetOutput>> TargetOutput::Load(const std::string& target,
                                                         const std::vector<int32_t>& ids,
                                                         DType dtype, Numerics numerics,
                                                         Backend& backend) {
  GALE_ASSIGN_OR_RETURN(const ModelSource source, ReadModelSource(target));
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(source.folder));
  const HfConfig& config = source.config;
  const int64_t rows = ids.empty() ? config.vocab_size : std::ssize(ids);

  ParamBuilder builder(dtype, numerics);
  builder.IgnorePrefix("");  // everything else belongs to the target
  auto output = std::make_unique<TargetOutput>();
  output->store_ = builder.store();
  output->linear_ = std::make_unique<Linear>(builder, config.hidden_size, rows);
  ParamSpec spec = {{{{std::string(kHeadName) + ".weight"}, config.vocab_size}},
                    {config.vocab_size, config.hidden_size},
                    dtype};
  if (config.tie_word_embeddings) spec.parts[0].names.emplace_back("model.embed_tokens.weight");
  spec.on_host = true;
  builder.Declare({std::move(spec)},
                  [linear = output->linear_.get(), &ids](BindContext& context,
                                                         std::vector<RawParam> params) -> Status {
                    GALE_RETURN_IF_ERROR(context.BringToHost(params[0]));
                    if (ids.empty()) return linear->BindOwned(context, std::move(params[0]));
                    GALE_ASSIGN_OR_RETURN(RawParam picked, PickRows(context, params[0].view, ids));
                    return linear->BindOwned(context, std::move(picked));
                  });
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), backend, {}));
  return output;
}

}  // namespace gale
