// What this binary was built from.
#pragma once

namespace gale::cli {

struct BuildInfo {
  const char* version;   ///< "0.1.0"
  const char* commit;    ///< short hash, "-dirty" behind it when the tree had changes; or "unknown"
  const char* compiler;  ///< "GNU 12.2.0"
  const char* build_type;  ///< "Release"
};

extern const BuildInfo kBuildInfo;

}  // namespace gale::cli
