#include "cli/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/figures.h"

namespace gale::cli {
namespace {

constexpr int kWidth = 30;
constexpr std::chrono::milliseconds kInterval(100);
constexpr const char* kWipeLine = "\r\033[K";

}  // namespace

ProgressBar::ProgressBar(const char* verb) : verb_(verb), enabled_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_) fmt::print(stderr, "{}", kWipeLine);
}

void ProgressBar::Update(uint64_t done_bytes, uint64_t total_bytes) {
  const Clock::time_point now = Clock::now();
  if (!enabled_ || total_bytes == 0 || (drawn_ && now - last_draw_ < kInterval)) return;
  last_draw_ = now;
  drawn_ = true;
  const double share = std::min(1.0, static_cast<double>(done_bytes) / total_bytes);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const auto filled = static_cast<size_t>(share * kWidth);
  fmt::print(stderr, "{}{} [{}{}] {:3.0f}%  {} of {}  {}/s", kWipeLine, verb_,
             std::string(filled, '#'), std::string(kWidth - filled, '.'), 100 * share,
             FormatBytes(done_bytes), FormatBytes(total_bytes),
             FormatBytes(seconds > 0 ? static_cast<uint64_t>(done_bytes / seconds) : 0));
  std::fflush(stderr);
}

}  // namespace gale::cli
