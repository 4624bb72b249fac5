#include "models/medusa_heads.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "models/model_source.h"
#include "quant/quant_scheme.h"
#include "weights/json_file.h"
#include "weights/weight_loader.h"

namespace gale {
namespace {

struct MedusaConfig {
  int num_heads = 0;
  int num_layers = 1;
  int vocab_size = 0;  ///< that is drafted
  HfConfig quantized;  ///< how the matrices are stored; nothing else of it is set
};

/// The first of the names that config.json has.
Result<int> ReadCount(const JsonObject& root, std::initializer_list<const char*> names, int most,
                      std::optional<int> fallback) {
  for (const char* name : names) {
    if (const auto value = root.Find(name)) {
      GALE_ASSIGN_OR_RETURN(const int64_t count, value->Int(1, most));
      return static_cast<int>(count);
    }
  }
  if (fallback) return *fallback;
  return tl::unexpected(root.Get(*names.begin()).error());
}

Status CheckSize(const std::string& folder, const JsonObject& root, const char* name,
                 int expected) {
  const auto value = root.Find(name);
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const int64_t got, value->Int());
  if (got == expected) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: these heads are of another model: {} is {}, that of the target "
                               "{}; give the heads that were trained for it",
                               folder, name, got, expected));
}

Status ReadQuantization(const JsonObject& root, const std::string& path, HfConfig& config) {
  config.quant.source = path;
  config.quant.json = R"({"quantization_config":{}})";
  const auto value = root.Find("quantization_config");
  if (!value) return {};
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value->Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue method, object.Get("quant_method"));
  GALE_ASSIGN_OR_RETURN(config.quant_method, method.String());
  config.quant.json = fmt::format(R"({{"quantization_config":{}}})", value->Minified());
  return {};
}

Result<MedusaConfig> ReadMedusaConfig(const std::string& folder, const HfConfig& target) {
  const std::string path = folder + "/config.json";
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(file.text(), path));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_RETURN_IF_ERROR(CheckSize(folder, root, "hidden_size", target.hidden_size));
  GALE_RETURN_IF_ERROR(CheckSize(folder, root, "vocab_size", target.vocab_size));
  MedusaConfig config;
  GALE_ASSIGN_OR_RETURN(config.num_heads,
                        ReadCount(root, {"medusa_num_heads", "num_heads"}, 64, std::nullopt));
  GALE_ASSIGN_OR_RETURN(config.num_layers,
                        ReadCount(root, {"medusa_num_layers", "num_hidden_layers"}, 64, 1));
  GALE_ASSIGN_OR_RETURN(config.vocab_size, ReadCount(root, {"truncated_vocab_size"},
                                                     target.vocab_size, target.vocab_size));
  GALE_RETURN_IF_ERROR(ReadQuantization(root, path, config.quantized));
  return config;
}

}  // namespace

size_t MedusaHeads::ScratchBytes(int rows) const {
  return 2 * ScratchArena::Bytes(dtype_, {rows, hidden_});
}

void MedusaHeads::Forward(ForwardContext& context, int head, const TensorView& states,
                          const TensorView& logits) const {
  const ScratchScope scope(*context.scratch);
  const TensorView x = context.scratch->Take(dtype_, {states.dim(0), hidden_});
  const TensorView y = context.scratch->Take(dtype_, {states.dim(0), hidden_});
  context.backend->Copy(*context.stream, x.data, states.data, x.Bytes());
  for (const auto& layer : blocks_[static_cast<size_t>(head)]) {
    layer->Forward(context, x, y);
    context.backend->AddSilu(*context.stream, {x, y});
  }
  if (outputs_.empty()) return output_->Forward(context, x, logits);
  outputs_[static_cast<size_t>(head)]->Forward(context, x, logits);
}

Result<std::unique_ptr<MedusaHeads>> MedusaHeads::Load(const DraftHeadOptions& options,
                                                       Backend& backend) {
  GALE_ASSIGN_OR_RETURN(const ModelSource target, ReadModelSource(options.target));
  GALE_ASSIGN_OR_RETURN(const MedusaConfig config, ReadMedusaConfig(options.folder, target.config));
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(options.folder));
  GALE_ASSIGN_OR_RETURN(const std::unique_ptr<const QuantScheme> scheme,
                        MakeQuantScheme(config.quantized, checkpoint.get()));
  const bool has_outputs =
      checkpoint->Find(fmt::format("0.{}.weight", config.num_layers)) != nullptr;
  const int64_t hidden = target.config.hidden_size;

  ParamBuilder builder(options.dtype, options.numerics);
  std::unique_ptr<MedusaHeads> heads(new MedusaHeads);
  heads->dtype_ = options.dtype;
  heads->hidden_ = target.config.hidden_size;
  heads->store_ = builder.store();
  heads->vocabulary_ = std::make_unique<DraftVocabulary>(
      builder, config.vocab_size < target.config.vocab_size ? "token_map" : "", config.vocab_size,
      /*is_offset=*/false, target.config.vocab_size);
  for (int head = 0; head < config.num_heads; ++head) {
    auto& layers = heads->blocks_.emplace_back();
    for (int layer = 0; layer < config.num_layers; ++layer) {
      layers.push_back(std::make_unique<Linear>(
          builder, *scheme, hidden,
          std::vector<LinearPart>{{fmt::format("{}.{}.linear", head, layer), hidden}}, true));
    }
    if (!has_outputs) continue;
    heads->outputs_.push_back(std::make_unique<Linear>(
        builder, *scheme, hidden,
        std::vector<LinearPart>{{fmt::format("{}.{}", head, config.num_layers), config.vocab_size}},
        false));
  }
  GALE_RETURN_IF_ERROR(LoadWeights(builder, std::move(checkpoint), backend, {}));
  if (!has_outputs) {
    GALE_ASSIGN_OR_RETURN(
        heads->output_, TargetOutput::Load(options.target, heads->vocabulary_->ids(), options.dtype,
                                           options.numerics, backend));
  }
  return heads;
}

}  // namespace gale
