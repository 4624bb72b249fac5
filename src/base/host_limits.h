// What this process may use of the machine: processors and memory, as the kernel and the
// container's control group allow. Layer L0; read at start-up by the thread pool and before large
// allocations.
#pragma once

#include <cstddef>
#include <string>

namespace gale {

/// Processors this process may run on at once: the affinity mask, cut by the control group's quota
/// (rounded up). At least 1. `root` is the file system to look at ("" = the real one).
int AvailableCpus(const std::string& root = "");

struct HostMemory {
  size_t total_bytes = 0;  ///< of the machine, or the control group's limit when that is smaller
  size_t available_bytes = 0;  ///< what can still be taken without swapping or being killed
};
HostMemory ReadHostMemory(const std::string& root = "");

/// "AMD EPYC 9354"; "unknown CPU" where the kernel does not say.
std::string CpuModelName();

}  // namespace gale
