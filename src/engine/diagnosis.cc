#include "engine/diagnosis.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "backend/registry.h"
#include "base/host_limits.h"
#include "engine/memory_plan.h"
#include "text/load_cache.h"
#include "weights/hub_cache.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

/// The smallest models and their KV cache need about this much.
constexpr size_t kLeastMemory = size_t{256} << 20;
/// Half a gigabyte of weights in bf16 with room for keys, values and activations.
constexpr size_t kLittleMemory = size_t{2} << 30;

constexpr const char* kHugePageFile = "/sys/kernel/mm/transparent_hugepage/enabled";

Result<DeviceInfo> ReadDevice(const std::string& name) {
  const auto backend = CreateBackend(name, {});
  if (!backend) return tl::unexpected(backend.error());
  return (*backend)->info();
}

Finding HubFinding() {
  const std::string folder = HubCacheFolder();
  std::error_code ignored;
  const char* state = fs::is_directory(folder, ignored) ? "" : ", not there yet";
  return {"hub cache", Health::kOk, folder + state, ""};
}

}  // namespace

Finding DeviceFinding(std::string_view name, const Result<DeviceInfo>& info, bool is_asked_for) {
  Finding finding{std::string(name), Health::kOk, "", ""};
  if (!info) {
    const std::string& message = info.error().message;
    const size_t end = std::min(message.find("; "), message.size());
    finding.health = is_asked_for ? Health::kProblem : Health::kWarning;
    finding.fact = message.substr(0, end);
    finding.fix = end < message.size() ? message.substr(end + 2) : "use --device cpu";
    return finding;
  }
  finding.fact = info->description;
  if (info->is_host_memory) {
    // The description names the kernels that were chosen: portable, avx2 or avx512.
    if (info->description.find(", portable,") == std::string::npos) return finding;
    finding.health = Health::kWarning;
    finding.fix =
        "without AVX2 all is several times slower; in a virtual machine, pass the host's processor "
        "model through";
    return finding;
  }
  finding.fact +=
      fmt::format(", {} free of {}", FormatBytes(info->free_bytes), FormatBytes(info->total_bytes));
  if (info->free_bytes < info->total_bytes / 2) {
    finding.health = Health::kWarning;
    finding.fix = "other processes hold most of its memory: end them (nvidia-smi lists them)";
  }
  return finding;
}

Finding ProcessorFinding(int available, int online) {
  if (available >= online) {
    return {"processors", Health::kOk, fmt::format("all {}", online), ""};
  }
  return {
      "processors", Health::kWarning,
      fmt::format("{} of {}, by the control group's CPU quota or the affinity mask", available,
                  online),
      "for more speed raise the quota (docker --cpus, Kubernetes resources.limits.cpu) or widen "
      "the mask (docker --cpuset-cpus, taskset)"};
}

Finding MemoryFinding(const HostMemory& memory, size_t machine_bytes) {
  const bool is_limited = memory.total_bytes < machine_bytes / 100 * 99;
  Finding finding{"memory", Health::kOk,
                  fmt::format("{} free of {}", FormatBytes(memory.available_bytes),
                              FormatBytes(memory.total_bytes)),
                  ""};
  if (is_limited) {
    finding.fact +=
        fmt::format(", the control group's limit (the machine has {})", FormatBytes(machine_bytes));
  }
  if (memory.available_bytes < kLittleMemory) {
    finding.health = memory.available_bytes < kLeastMemory ? Health::kProblem : Health::kWarning;
    finding.fix = is_limited ? "raise the limit (docker --memory, Kubernetes "
                               "resources.limits.memory), or end what else runs in this group"
                             : "end what else takes memory, or take a machine with more";
  }
  return finding;
}

Finding HugePageFinding(const std::string& modes) {
  const size_t begin = modes.find('[');
  const size_t end = modes.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    return {"huge pages", Health::kOk, "not offered by this kernel", ""};
  }
  const std::string mode = modes.substr(begin + 1, end - begin - 1);
  if (mode != "never") return {"huge pages", Health::kOk, mode, ""};
  return {"huge pages", Health::kWarning, "never: reading large weights misses the TLB more often",
          fmt::format("echo madvise | sudo tee {}", kHugePageFile)};
}

Finding CacheFolderFinding(const std::string& folder) {
  if (folder.empty()) {
    return {"cache", Health::kOk,
            "none: GALE_TOKENIZER_CACHE is off, or neither XDG_CACHE_HOME nor HOME is set", ""};
  }
  std::error_code ignored;
  fs::path existing = folder;
  while (existing.has_relative_path() && !fs::exists(existing, ignored)) {
    existing = existing.parent_path();
  }
  if (fs::is_directory(existing, ignored) && access(existing.c_str(), W_OK | X_OK) == 0) {
    return {"cache", Health::kOk, folder + ", writable", ""};
  }
  return {"cache", Health::kWarning, folder + " cannot be written to",
          fmt::format("make {} a folder of this user, or set XDG_CACHE_HOME to one, so that large "
                      "tokenizers load faster the second time",
                      existing.string())};
}

Result<std::vector<Finding>> DiagnoseMachine(std::string_view device) {
  const std::vector<std::string> names = BackendNames();
  if (device != "auto" && std::find(names.begin(), names.end(), device) == names.end()) {
    return MakeError(ErrorCode::kNotFound, fmt::format("unknown device \"{}\": this build has {}",
                                                       device, fmt::join(names, ", ")));
  }
  std::vector<Finding> findings;
  for (const std::string& name : names) {
    // The CPU is what everything falls back to.
    const bool is_asked_for = name == device || name == "cpu";
    findings.push_back(DeviceFinding(name, ReadDevice(name), is_asked_for));
  }
  findings.push_back(
      ProcessorFinding(AvailableCpus(), static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN))));
  findings.push_back(MemoryFinding(ReadHostMemory(), static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) *
                                                         static_cast<size_t>(getpagesize())));
  std::string modes;
  std::ifstream file(kHugePageFile);
  std::getline(file, modes);
  findings.push_back(HugePageFinding(modes));
  findings.push_back(CacheFolderFinding(text::LoadCache::Folder().value_or("")));
  findings.push_back(HubFinding());
  return findings;
}

}  // namespace gale
