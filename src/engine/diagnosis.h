// The single findings behind DiagnoseMachine, from plain values. Layer L5.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "base/host_limits.h"
#include "gale/diagnosis.h"

namespace gale {

/// `info` is the device's own word, or why it cannot be used: "reason; what to do".
Finding DeviceFinding(std::string_view name, const Result<DeviceInfo>& info, bool is_asked_for);

/// `available` of the machine's `online` processors may be used.
Finding ProcessorFinding(int available, int online);

/// `machine_bytes` is the machine's memory without regard to control groups.
Finding MemoryFinding(const HostMemory& memory, size_t machine_bytes);

/// `modes` is the text of /sys/kernel/mm/transparent_hugepage/enabled, empty without huge pages.
Finding HugePageFinding(const std::string& modes);

/// Whether files can be made in `folder`, or it can be made itself; "" when there is no cache.
Finding CacheFolderFinding(const std::string& folder);

}  // namespace gale
