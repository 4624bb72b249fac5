#include "base/host_limits.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

#include <sched.h>

namespace gale {
namespace {

std::optional<std::string> ReadLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

/// Absent, "max" and -1 all mean "no limit".
std::optional<uint64_t> ReadLimit(const std::string& path) {
  const std::optional<std::string> line = ReadLine(path);
  if (!line || line->empty() || line->front() < '0' || line->front() > '9') return std::nullopt;
  return std::stoull(*line);
}

/// Folders of this process's control group for `controller`, innermost first: every ancestor may
/// set a limit. Covers version 2 and version 1; inside a container the path may not exist, then the
/// mount's root is the container's own group.
std::vector<std::string> GroupFolders(const std::string& root, std::string_view controller) {
  std::vector<std::string> folders;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 &&
        ("," + controllers + ",").find("," + std::string(controller) + ",") == std::string::npos) {
      continue;
    }
    const std::string mount =
        root + "/sys/fs/cgroup" + (version2 ? "" : "/" + std::string(controller));
    for (std::string path = line.substr(second + 1); !path.empty() && path != "/";
         path.resize(path.rfind('/'))) {
      folders.push_back(mount + path);
    }
    folders.push_back(mount);
  }
  return folders;
}

/// Processors' worth of time that the quota of one group allows.
std::optional<double> CpuQuota(const std::string& folder) {
  if (const auto line = ReadLine(folder + "/cpu.max")) {
    std::istringstream fields(*line);
    double quota = 0;
    double period = 0;
    if (fields >> quota >> period && period > 0) return quota / period;
  }
  const auto quota = ReadLimit(folder + "/cpu.cfs_quota_us");
  const auto period = ReadLimit(folder + "/cpu.cfs_period_us");
  if (!quota || !period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

/// The value in bytes of a "Name:  123 kB" line.
size_t MemInfoBytes(const std::string& root, std::string_view name) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string key, unit; file >> key;) {
    size_t kilobytes = 0;
    file >> kilobytes;
    std::getline(file, unit);
    if (key == name) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

int AvailableCpus(const std::string& root) {
  int cpus = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) cpus = CPU_COUNT(&mask);
  for (const std::string& folder : GroupFolders(root, "cpu")) {
    if (const auto quota = CpuQuota(folder)) {
      const int whole = static_cast<int>(std::min(*quota, 1e6));
      cpus = std::min(cpus, whole + (*quota > whole ? 1 : 0));
    }
  }
  return std::max(cpus, 1);
}

HostMemory ReadHostMemory(const std::string& root) {
  HostMemory memory{MemInfoBytes(root, "MemTotal:"), MemInfoBytes(root, "MemAvailable:")};
  for (const std::string& folder : GroupFolders(root, "memory")) {
    auto limit = ReadLimit(folder + "/memory.max");
    auto used = ReadLimit(folder + "/memory.current");
    if (!limit) limit = ReadLimit(folder + "/memory.limit_in_bytes");
    if (!used) used = ReadLimit(folder + "/memory.usage_in_bytes");
    if (!limit || !used) continue;
    memory.total_bytes = std::min<size_t>(memory.total_bytes, *limit);
    memory.available_bytes =
        std::min<size_t>(memory.available_bytes, *limit > *used ? *limit - *used : 0);
  }
  return memory;
}

std::string CpuModelName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

}  // namespace gale
