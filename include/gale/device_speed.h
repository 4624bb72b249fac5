// What a device can do at this moment: the limits that measured speeds are held against.
#pragma once

#include <cstddef>
#include <string>

#include "gale/status.h"

namespace gale {

struct DeviceSpeed {
  double read_bytes_per_s = 0;    ///< of the device's memory
  double product_flop_per_s = 0;  ///< multiply-adds count two; a GPU's in bf16, the CPU's in f32
  double library_flop_per_s = 0;  ///< of 8192^3 bf16 by the vendor's library; 0 where there is none
  double upload_bytes_per_s = 0;  ///< from pinned host memory; 0 where the device reads the host's
};

/// Measures the device (as EngineConfig::device and threads have it) in about a tenth of a second,
/// each figure being the best of a few rounds: a limit is what the device does when nobody disturbs
/// it. `read_bytes` is the size of the buffer read; one that fits a cache gives that cache's speed,
/// as weights of that size would see it.
/// Errors: those of creating the device; kResourceExhausted; kDevice.
Result<DeviceSpeed> MeasureDeviceSpeed(const std::string& device, int threads, size_t read_bytes);

/// What makes figures from `device` (LlmEngine::device) meaningless: that it is far slower than
/// others of its kind. Empty when it is not, or when nobody has said how fast its kind is.
std::string TooSlow(const std::string& device, const DeviceSpeed& speed);

}  // namespace gale
