#include "runner/graph_runner.h"

#include <algorithm>

#include "base/check.h"

namespace gale {
namespace {

/// Padding costs little where steps are short anyway, and at most a fourth of a long one.
int NextBucket(int bucket) {
  if (bucket < 8) return 2 * bucket;
  if (bucket < 32) return bucket + 8;
  if (bucket < 64) return bucket + 16;
  if (bucket < 256) return bucket + 32;
  return bucket + 128;
}

}  // namespace

GraphRunner::GraphRunner(Backend& backend, Stream& stream, int max_rows, EnqueueStep enqueue)
    : backend_(backend), stream_(stream), enqueue_(std::move(enqueue)) {
  for (int bucket = 1; bucket < max_rows; bucket = NextBucket(bucket)) {
    buckets_.push_back(bucket);
  }
  buckets_.push_back(max_rows);
}

int GraphRunner::FindBucket(int rows) const {
  const auto bucket = std::ranges::lower_bound(buckets_, rows);
  const auto captured = static_cast<std::ptrdiff_t>(graphs_.size() / kSlots);
  return bucket - buckets_.begin() < captured ? *bucket : 0;
}

void GraphRunner::Launch(int bucket, int slot) {
  const auto found = std::ranges::lower_bound(buckets_, bucket);
  const auto index = static_cast<size_t>((found - buckets_.begin()) * kSlots + slot);
  GALE_CHECK_LT(index, graphs_.size());
  graphs_[index]->Launch(stream_);
}

bool GraphRunner::CaptureNext() {
  const size_t next = graphs_.size();
  if (next == buckets_.size() * kSlots) return false;
  const int rows = buckets_[next / kSlots];
  const int slot = static_cast<int>(next % kSlots);
  Result<std::unique_ptr<Graph>> graph = backend_.Capture(stream_, [&] { enqueue_(rows, slot); });
  if (!graph || *graph == nullptr) {
    buckets_.resize(next / kSlots);
    graphs_.resize(buckets_.size() * kSlots);
    return false;
  }
  graphs_.push_back(*std::move(graph));
  return true;
}

}  // namespace gale
