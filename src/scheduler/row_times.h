// How long work on so many rows takes, as measured lately. Layer L3; used by DraftController.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gale {

/// A curve through faded means: times of few rows need not lie on any line, since other kernels
/// serve a row than eight. Cost: O(1) to observe, O(number of classes) to look up.
class RowTimes {
 public:
  void Observe(int rows, double seconds);
  bool empty() const { return num_observed_ == 0; }
  /// Observations since one of about so many rows; a large number if there was none.
  uint64_t Age(int rows) const;
  /// Between classes that have been seen in proportion; beyond them hardly more, so that it is
  /// tried.
  double Seconds(int rows) const;

 private:
  static constexpr int kExact = 16;  ///< rows up to here have classes of their own
  static constexpr size_t kNumClasses = 64;
  struct Class {
    double rows = 0;  ///< mean
    double seconds = 0;
    uint64_t last = 0;  ///< observation; 0: none
    bool was_outlier = false;
  };
  static size_t ClassOf(int rows);

  std::array<Class, kNumClasses> classes_;
  uint64_t num_observed_ = 0;
};

}  // namespace gale
