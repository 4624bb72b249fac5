#include "models/model_source.h"

#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "gale/model_info.h"
#include "weights/gguf_model.h"
#include "weights/hub_cache.h"
#include "weights/json_file.h"
#include "weights/presets.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

Status ReadConfig(std::string_view text, const std::string& name, ModelSource& source) {
  GALE_ASSIGN_OR_RETURN(source.config, ParseHfConfig(text, name, SupportedArchitectures()));
  source.generation.eos_token_ids = source.config.eos_token_ids;
  return {};
}

Status ReadConfigFile(const fs::path& path, ModelSource& source) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  return ReadConfig(file.text(), path, source);
}

Status ReadGenerationConfig(const fs::path& path, ModelSource& source) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  GALE_ASSIGN_OR_RETURN(source.generation,
                        ParseGenerationConfig(file.text(), path, source.config.vocab_size));
  if (source.generation.eos_token_ids.empty()) {
    source.generation.eos_token_ids = source.config.eos_token_ids;
  }
  return {};
}

}  // namespace

Result<ModelSource> ReadModelSource(const std::string& model) {
  ModelSource source;
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    source.folder = model;
    GALE_RETURN_IF_ERROR(ReadConfigFile(fs::path(model) / "config.json", source));
    const fs::path generation = fs::path(model) / "generation_config.json";
    if (fs::exists(generation, ignored)) {
      GALE_RETURN_IF_ERROR(ReadGenerationConfig(generation, source));
    }
    return source;
  }
  if (fs::exists(model, ignored) && IsGgufPath(model)) {
    GALE_ASSIGN_OR_RETURN(const GgufModel gguf, GgufModel::Open(model));
    GALE_ASSIGN_OR_RETURN(source.config, gguf.Config(SupportedArchitectures()));
    source.folder = model;
    source.generation.eos_token_ids = source.config.eos_token_ids;
    return source;
  }
  if (fs::exists(model, ignored)) {
    GALE_RETURN_IF_ERROR(ReadConfigFile(model, source));
    return source;
  }
  const std::string_view preset = PresetConfig(model);
  if (preset.empty()) {
    return MakeError(
        ErrorCode::kNotFound,
        fmt::format("{}: no such model: expected a checkpoint folder, a config.json, ORG/NAME of "
                    "the Hugging Face hub or one of the presets {}",
                    model, fmt::join(PresetNames(), ", ")));
  }
  GALE_RETURN_IF_ERROR(ReadConfig(preset, model, source));
  return source;
}

Result<std::string> ResolveModel(const std::string& model, LoadFormat format) {
  std::error_code ignored;
  const std::optional<HubModel> hub_model = ParseHubModel(model);
  if (fs::exists(model, ignored) || !hub_model) return model;
  return FindSnapshot(*hub_model, HubCacheFolder(), format != LoadFormat::kDummy);
}

DType ResolveDType(ModelDType asked, DType checkpoint) {
  switch (asked) {
    case ModelDType::kF32: return DType::kF32;
    case ModelDType::kBf16: return DType::kBf16;
    case ModelDType::kAuto: break;
  }
  return checkpoint == DType::kBf16 ? DType::kBf16 : DType::kF32;
}

}  // namespace gale
