// Decode steps as captured graphs: one launch instead of hundreds, and no time lost between
// kernels. Layer L4; owned by ModelRunner.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace gale {

/// A graph serves a bucket, steps of up to so many rows of one token each, and one of the two sets
/// of step arrays, whose addresses it holds. Graphs are captured one at a time, which takes the
/// host some milliseconds; a bucket runs without until both of its graphs exist.
class GraphRunner {
 public:
  /// Enqueues a step of `rows` sequences, all of them padding, on step arrays `slot`.
  using EnqueueStep = std::function<void(int rows, int slot)>;

  GraphRunner(Backend& backend, Stream& stream, int max_rows, EnqueueStep enqueue);

  /// The bucket for steps of `rows` rows; 0 when there is none, or not yet.
  int FindBucket(int rows);
  void Launch(int bucket, int slot);

  /// Captures the smallest missing graph. False when none is missing, or none can be captured: the
  /// device has no graphs, or no memory for more.
  bool CaptureNext() {
    return CaptureFirst([](const Bucket&) { return true; });
  }
  /// The same, of buckets that at least `num_missed` steps had to do without.
  bool CaptureMissed(int num_missed) {
    return CaptureFirst([=](const Bucket& bucket) { return bucket.num_missed >= num_missed; });
  }

 private:
  struct Bucket {
    int rows = 0;
    int num_missed = 0;                            ///< steps that had to do without
    std::array<std::unique_ptr<Graph>, 2> graphs;  ///< [slot]

    bool is_captured() const { return graphs[0] != nullptr && graphs[1] != nullptr; }
  };

  bool CaptureFirst(const std::function<bool(const Bucket&)>& is_due);

  Backend& backend_;
  Stream& stream_;
  EnqueueStep enqueue_;
  std::vector<Bucket> buckets_;  ///< ascending
};

}  // namespace gale
