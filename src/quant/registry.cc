#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "quant/quant_scheme.h"

namespace gale {
namespace {

// Function-local, so that it exists before the first static initializer registers.
std::map<std::string, const QuantScheme*, std::less<>>& Schemes() {
  static std::map<std::string, const QuantScheme*, std::less<>> schemes;
  return schemes;
}

}  // namespace

bool RegisterQuantScheme(const QuantScheme* scheme) {
  const bool is_new = Schemes().emplace(scheme->name(), scheme).second;
  GALE_CHECK(is_new && "two quantization schemes of one name");
  return true;
}

std::vector<std::string> QuantSchemeNames() {
  std::vector<std::string> names;
  for (const auto& [name, scheme] : Schemes()) names.push_back(name);
  return names;
}

Result<const QuantScheme*> FindQuantScheme(std::string_view name) {
  const auto found = Schemes().find(name);
  if (found == Schemes().end()) {
    return MakeError(ErrorCode::kUnsupported,
                     fmt::format("quantization method \"{}\" is not supported; this build knows "
                                 "{} (\"none\": plain weights)",
                                 name, fmt::join(QuantSchemeNames(), ", ")));
  }
  return found->second;
}

}  // namespace gale
