// The bar on standard error while a model loads or is fetched; silent when that is no terminal.
#pragma once

#include <chrono>
#include <cstdint>

namespace gale::cli {

class ProgressBar {
 public:
  explicit ProgressBar(const char* verb = "loading");
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  ///< wipes the bar

  /// Redraws at most ten times a second.
  void Update(uint64_t done_bytes, uint64_t total_bytes);

 private:
  using Clock = std::chrono::steady_clock;
  const char* verb_;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_draw_;
};

}  // namespace gale::cli
