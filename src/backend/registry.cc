#include "backend/registry.h"

#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"

namespace gale {
namespace {

std::map<std::string, BackendFactory, std::less<>>& Factories() {
  static std::map<std::string, BackendFactory, std::less<>> factories;
  return factories;
}

/// Accelerators before the CPU, which always works. The device's description says why.
Result<std::unique_ptr<Backend>> CreateFastest(BackendOptions options) {
  std::string refused;
  for (const auto& [name, factory] : Factories()) {
    if (name == "cpu") continue;
    auto backend = factory(options);
    if (backend) return backend;
    refused += fmt::format("{}{}", refused.empty() ? "" : "; ", backend.error().message);
  }
  if (!refused.empty()) options.note = fmt::format(" ({})", refused);
  return CreateBackend("cpu", options);
}

}  // namespace

bool RegisterBackend(std::string_view name, BackendFactory factory) {
  GALE_CHECK_NE(name, "auto");
  const bool inserted = Factories().emplace(name, factory).second;
  if (!inserted)
    internal::CheckFailed(__FILE__, __LINE__, fmt::format("two back ends \"{}\"", name));
  return true;
}

std::vector<std::string> BackendNames() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : Factories()) names.push_back(name);
  return names;
}

Result<std::unique_ptr<Backend>> CreateBackend(std::string_view name,
                                               const BackendOptions& options) {
  if (name == "auto") return CreateFastest(options);
  const auto found = Factories().find(name);
  if (found == Factories().end()) {
    return MakeError(ErrorCode::kNotFound, fmt::format("unknown device \"{}\": this build has {}",
                                                       name, fmt::join(BackendNames(), ", ")));
  }
  return found->second(options);
}

}  // namespace gale
