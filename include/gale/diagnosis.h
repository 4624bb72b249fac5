// What this machine offers Gale, and what keeps it from running well: for `gale doctor`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gale/status.h"

namespace gale {

enum class Health {
  kOk,
  kWarning,  ///< runs, but slower or with less room than the machine could give
  kProblem,  ///< does not run
};

struct Finding {
  std::string subject;  ///< "memory"
  Health health = Health::kOk;
  std::string fact;  ///< what is there
  std::string fix;   ///< what to do about it; empty when all is well
};

/// Looks at every device of this build, the processors, memory and folders that this process may
/// use. A device that cannot be used is a problem when it is `device`, and a warning with "auto".
/// Errors: kNotFound when this build has no such device.
Result<std::vector<Finding>> DiagnoseMachine(std::string_view device);

}  // namespace gale
