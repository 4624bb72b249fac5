#include "models/model_registry.h"

#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "gale/model_info.h"

namespace gale {
namespace {

// Function-local, so that it exists before the first static initializer registers.
std::map<std::string, ModelFactory, std::less<>>& Factories() {
  static std::map<std::string, ModelFactory, std::less<>> factories;
  return factories;
}

}  // namespace

bool RegisterModel(std::string_view architecture, ModelFactory factory) {
  const bool is_new = Factories().emplace(architecture, factory).second;
  GALE_CHECK(is_new && "two models of one architecture");
  return true;
}

Result<ModelFactory> FindModel(std::string_view architecture) {
  const auto found = Factories().find(architecture);
  if (found == Factories().end()) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("{} is not supported yet; this build runs {}", architecture,
                                 fmt::join(SupportedArchitectures(), ", ")));
  }
  return found->second;
}

std::vector<std::string> SupportedArchitectures() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : Factories()) names.push_back(name);
  return names;
}

}  // namespace gale
