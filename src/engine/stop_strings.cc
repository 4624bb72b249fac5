#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

namespace gale {

std::string StopStrings::Push(std::string_view text, bool may_end) {
  if (matched_) return {};
  pending_ += text;
  if (!may_end) barred_ = pending_.size();
  size_t match_begin = 0;
  size_t match_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t first = barred_ < stop.size() ? 0 : barred_ - stop.size() + 1;
    const size_t begin = pending_.find(stop, first);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < match_end || (end == match_end && begin < match_begin)) {
      match_begin = begin;
      match_end = end;
    }
  }
  if (match_end != std::string::npos) {
    matched_ = true;
    pending_.resize(include_stop_ ? match_end : match_begin);
    return std::exchange(pending_, {});
  }
  const size_t released = pending_.size() - HeldBack();
  std::string shown = pending_.substr(0, released);
  pending_.erase(0, released);
  barred_ -= std::min(barred_, released);
  return shown;
}

std::string StopStrings::Flush() { return std::exchange(pending_, {}); }

/// Length of the longest suffix of pending_ that is a proper prefix of a stop string.
size_t StopStrings::HeldBack() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, pending_.size()); length > held; --length) {
      if (pending_.ends_with(std::string_view(stop).substr(0, length))) {
        held = length;
        break;
      }
    }
  }
  return held;
}

}  // namespace gale
