// The engine's clock: one origin for the scheduler's and the output thread's times. Layer L5.
#pragma once

#include <chrono>

namespace gale {

inline double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace gale
