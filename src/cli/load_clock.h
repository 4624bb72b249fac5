// How long a model's weights are on their way into the device's memory, by what LlmEngine::Create
// tells while it loads.
#pragma once

#include <chrono>
#include <cstdint>

#include "gale/llm_engine.h"

namespace gale::cli {

class LoadClock {
 public:
  /// Weights are read from now on.
  void Planned(const MemoryReport& memory) {
    bytes_ = memory.weights_private_bytes;
    begin_ = Clock::now();
  }
  void Progressed() { end_ = Clock::now(); }

  uint64_t bytes() const { return bytes_; }  ///< that were copied
  double seconds() const { return std::chrono::duration<double>(end_ - begin_).count(); }
  double bytes_per_s() const { return static_cast<double>(bytes_) / seconds(); }

 private:
  using Clock = std::chrono::steady_clock;
  uint64_t bytes_ = 0;
  Clock::time_point begin_;
  Clock::time_point end_;
};

}  // namespace gale::cli
