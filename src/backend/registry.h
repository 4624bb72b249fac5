// Devices by name. The only way from the rest of Gale to src/backend/<device>/.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace gale {

struct BackendOptions {
  int threads = 0;        ///< CPU compute threads; 0 = what the cgroup quota allows
  std::string note = {};  ///< ends the device's description: why it was chosen, when that was left
                          ///< open
};

using BackendFactory = Result<std::unique_ptr<Backend>> (*)(const BackendOptions& options);

/// Called by static initializers of the device folders; a duplicate name is fatal.
bool RegisterBackend(std::string_view name, BackendFactory factory);
std::vector<std::string> BackendNames();  ///< sorted
/// `name` may be "auto": the fastest device that works. kNotFound lists the names there are.
Result<std::unique_ptr<Backend>> CreateBackend(std::string_view name,
                                               const BackendOptions& options);

}  // namespace gale
