// The device that a test program runs on: --device=NAME after GoogleTest's own flags, else "cpu".
// Programs that use it list device_main.cc among their sources.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"

namespace gale {

const std::string& TestDevice();
/// Ends the program with a message when the device does not work.
std::unique_ptr<Backend> CreateTestBackend();

}  // namespace gale
