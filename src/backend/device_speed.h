// Times the probes of a back end. Layer L1b; the public functions are in gale/device_speed.h.
#pragma once

#include "backend/backend.h"
#include "gale/device_speed.h"

namespace gale {

/// As the public function, on a back end that is there already and idle.
Result<DeviceSpeed> MeasureDeviceSpeed(Backend& backend, size_t read_bytes);

}  // namespace gale
