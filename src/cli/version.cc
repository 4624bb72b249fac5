// gale --version: what this binary is and what it can run on.
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/build_info.h"
#include "cli/command.h"
#include "gale/engine_config.h"
#include "gale/model_info.h"

namespace gale::cli {

std::string VersionText() {
  return fmt::format("gale {} ({})\ncompiler       {}, {}\nback ends      {}\narchitectures  {}",
                     kBuildInfo.version, kBuildInfo.commit, kBuildInfo.compiler,
                     kBuildInfo.build_type, fmt::join(SupportedDevices(), ", "),
                     fmt::join(SupportedArchitectures(), ", "));
}

}  // namespace gale::cli
