#include "weights/pooling_config.h"

#include <filesystem>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "weights/json_file.h"

namespace gale {

Result<Pooling> ReadPooling(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder) / "1_Pooling" / "config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Pooling::kLast;
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path.string()));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse(file.text(), path.string()));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  const auto is_set = [&root](std::string_view mode) -> Result<bool> {
    const auto value = root.Find(mode);
    return value ? value->Bool() : false;
  };
  GALE_ASSIGN_OR_RETURN(const bool last, is_set("pooling_mode_lasttoken"));
  GALE_ASSIGN_OR_RETURN(const bool mean, is_set("pooling_mode_mean_tokens"));
  if (last != mean) return last ? Pooling::kLast : Pooling::kMean;
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("{}: expected one of pooling_mode_lasttoken and "
                               "pooling_mode_mean_tokens to be true",
                               path.string()));
}

}  // namespace gale
