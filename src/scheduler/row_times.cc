#include "scheduler/row_times.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gale {
namespace {

constexpr double kWeight = 0.2;  // of an observation, against those before it
constexpr double kOutlier = 2;   // so many times the mean is a disturbance, unless it is so again
constexpr uint64_t kForgotten = 128;  // a time so many observations old no longer counts
constexpr double kExtraRow = 0.01;    // of a class never seen: what a row adds, relatively

}  // namespace

size_t RowTimes::ClassOf(int rows) {
  if (rows <= kExact) return static_cast<size_t>(std::max(rows, 0));
  const double octaves = std::log2(static_cast<double>(rows) / kExact);
  return std::min(kNumClasses - 1, static_cast<size_t>(kExact + std::ceil(4 * octaves)));
}

void RowTimes::Observe(int rows, double seconds) {
  Class& c = classes_[ClassOf(rows)];
  ++num_observed_;
  if (c.last == 0) {
    c.rows = rows;
    c.seconds = seconds;
  } else {
    c.rows += kWeight * (rows - c.rows);
    const bool is_outlier = seconds > kOutlier * c.seconds;
    if (!is_outlier || c.was_outlier) c.seconds += kWeight * (seconds - c.seconds);
    c.was_outlier = is_outlier;
  }
  c.last = num_observed_;
}

uint64_t RowTimes::Age(int rows) const {
  const uint64_t last = classes_[ClassOf(rows)].last;
  return last == 0 ? std::numeric_limits<uint64_t>::max() : num_observed_ - last;
}

double RowTimes::Seconds(int rows) const {
  const size_t wanted = ClassOf(rows);
  const Class* below = nullptr;
  const Class* above = nullptr;
  for (size_t i = 0; i < kNumClasses; ++i) {
    if (classes_[i].last == 0 || num_observed_ - classes_[i].last > kForgotten) continue;
    if (i <= wanted) below = &classes_[i];
    if (i >= wanted && above == nullptr) above = &classes_[i];
  }
  if (below == nullptr) return above == nullptr ? 0 : above->seconds;
  if (above == below) return below->seconds;
  if (above == nullptr) return below->seconds * (1 + kExtraRow * (rows - below->rows));
  const double share = (rows - below->rows) / (above->rows - below->rows);
  return below->seconds + share * (above->seconds - below->seconds);
}

}  // namespace gale
