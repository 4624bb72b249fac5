// Decode steps as captured graphs: one launch instead of hundreds, and no time lost between
// kernels. Layer L4; owned by ModelRunner.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace gale {

/// A graph serves a bucket, steps of up to so many rows of one token each, and one of the sets of
/// step arrays, whose addresses it holds. Graphs are captured one at a time, smallest bucket first,
/// when the host has nothing better to do; a bucket runs without until both of its graphs exist.
class GraphRunner {
 public:
  /// Enqueues a step of `rows` sequences, all of them padding, on step arrays `slot`.
  using EnqueueStep = std::function<void(int rows, int slot)>;

  GraphRunner(Backend& backend, Stream& stream, int max_rows, EnqueueStep enqueue);

  /// The bucket of steps of `rows` rows; 0 when there is none, or not yet.
  int FindBucket(int rows) const;
  void Launch(int bucket, int slot);
  /// Captures the next graph, which takes the host some milliseconds. False when none is left; so
  /// it is, too, when the device has no graphs or no memory for more.
  bool CaptureNext();

 private:
  static constexpr int kSlots = 2;

  Backend& backend_;
  Stream& stream_;
  EnqueueStep enqueue_;
  std::vector<int> buckets_;                    ///< ascending
  std::vector<std::unique_ptr<Graph>> graphs_;  ///< [captured buckets * kSlots], in that order
};

}  // namespace gale
