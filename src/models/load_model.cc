#include "models/load_model.h"

#include <fmt/format.h>

#include "base/status_macros.h"
#include "models/model_registry.h"
#include "models/model_source.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

/// The checkpoint's own dtype: config.json's word, else that of its first tensor, else bf16. What
/// is quantized says float16 because kernels elsewhere compute in it; its weights are no float16,
/// and models that are trained in bf16 overflow it.
DType CheckpointDType(const HfConfig& config, const Checkpoint* checkpoint) {
  if (config.quant_method != "none" && config.dtype != DType::kF32) return DType::kBf16;
  if (config.dtype) return *config.dtype;
  if (checkpoint != nullptr && !checkpoint->tensors().empty()) {
    return checkpoint->tensors().front().dtype.value_or(DType::kBf16);
  }
  return DType::kBf16;
}

/// What reads the checkpoint's linear layers. What is quantized already stays as it is.
Result<std::unique_ptr<const QuantScheme>> MakeScheme(const LoadOptions& options,
                                                      const HfConfig& config,
                                                      const Checkpoint* checkpoint) {
  if (options.quantize != LoadQuantization::kNone && config.quant_method != "none") {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("quantize: expected a plain checkpoint, got one whose weights are "
                                 "in the format {}; leave --quantize out",
                                 config.quant_method));
  }
  if (options.quantize != LoadQuantization::kNone) return MakeOnLoadScheme(options.quantize);
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const QuantScheme> scheme,
                        MakeQuantScheme(config, checkpoint));
  if (checkpoint == nullptr) scheme = MakeDummyScheme(std::move(scheme));
  return scheme;
}

}  // namespace

Result<LoadedModel> LoadModel(const LoadOptions& options, Backend& backend,
                              const std::function<void(uint64_t, uint64_t)>& progress) {
  GALE_ASSIGN_OR_RETURN(ModelSource source, ReadModelSource(options.model));
  GALE_ASSIGN_OR_RETURN(const ModelFactory factory, FindModel(source.config.architecture));
  std::unique_ptr<const Checkpoint> checkpoint;
  if (options.format == LoadFormat::kAuto) {
    if (source.folder.empty()) {
      return MakeError(ErrorCode::kNotFound,
                       fmt::format("{} has no weights: give a checkpoint folder, or load format "
                                   "dummy for random weights of these shapes",
                                   options.model));
    }
    GALE_ASSIGN_OR_RETURN(checkpoint, Checkpoint::Open(source.folder));
  }
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<const QuantScheme> scheme,
                        MakeScheme(options, source.config, checkpoint.get()));
  if (options.max_model_len > 0) {
    source.config.rope.context = options.max_model_len;
    if (source.config.sliding_rope) source.config.sliding_rope->context = options.max_model_len;
  }
  const DType dtype = ResolveDType(options.dtype, CheckpointDType(source.config, checkpoint.get()));

  ParamBuilder builder(dtype, options.numerics);
  LoadedModel loaded;
  loaded.model = factory(source.config, *scheme, builder);
  if (options.on_declared) {
    if (checkpoint) GALE_RETURN_IF_ERROR(CheckParams(builder, *checkpoint));
    GALE_RETURN_IF_ERROR(
        options.on_declared(*loaded.model, CountWeightBytes(builder, checkpoint.get(), backend)));
  }
  if (checkpoint) {
    GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), backend, progress));
  } else {
    GALE_RETURN_IF_ERROR(LoadDummyWeights(builder, options.seed, backend, progress));
  }
  loaded.config = std::move(source.config);
  loaded.generation = std::move(source.generation);
  return loaded;
}

}  // namespace gale
