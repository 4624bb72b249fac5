#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/status_macros.h"
#include "quant/quant_scheme.h"

namespace gale {
namespace {

// Function-local, so that it exists before the first static initializer registers.
std::map<std::string, QuantSchemeFactory, std::less<>>& Factories() {
  static std::map<std::string, QuantSchemeFactory, std::less<>> factories;
  return factories;
}

}  // namespace

bool RegisterQuantScheme(std::string_view method, QuantSchemeFactory factory) {
  const bool is_new = Factories().emplace(method, factory).second;
  GALE_CHECK(is_new && "two quantization schemes of one name");
  return true;
}

std::vector<std::string> QuantSchemeNames() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : Factories()) names.push_back(name);
  return names;
}

Result<std::unique_ptr<const QuantScheme>> MakeQuantScheme(const HfConfig& config,
                                                           const Checkpoint* checkpoint) {
  const auto found = Factories().find(config.quant_method);
  if (found == Factories().end()) {
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("{}: quantization method \"{}\" is not supported; this build knows "
                    "{} (\"none\": plain weights)",
                    config.quant.source, config.quant_method, fmt::join(QuantSchemeNames(), ", ")));
  }
  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse(config.quant.json, config.quant.source));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue value, root.Get("quantization_config"));
  GALE_ASSIGN_OR_RETURN(const JsonObject object, value.Object());
  return found->second({object, checkpoint});
}

}  // namespace gale
