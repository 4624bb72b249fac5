#include "runner/graph_runner.h"

#include <algorithm>

#include "base/check.h"

namespace gale {
namespace {

/// Padding costs little where steps are short anyway, and at most a fifth of a long one.
int NextBucket(int rows) {
  if (rows < 8) return 2 * rows;
  if (rows < 32) return rows + 8;
  if (rows < 64) return rows + 16;
  if (rows < 256) return rows + 32;
  return rows + 128;
}

}  // namespace

GraphRunner::GraphRunner(Backend& backend, Stream& stream, int max_rows, EnqueueStep enqueue)
    : backend_(backend), stream_(stream), enqueue_(std::move(enqueue)) {
  for (int rows = 1; rows < max_rows; rows = NextBucket(rows)) buckets_.emplace_back().rows = rows;
  buckets_.emplace_back().rows = max_rows;
}

int GraphRunner::FindBucket(int rows) {
  const auto bucket = std::ranges::lower_bound(buckets_, rows, {}, &Bucket::rows);
  if (bucket == buckets_.end()) return 0;
  if (bucket->is_captured()) return bucket->rows;
  ++bucket->num_missed;
  return 0;
}

void GraphRunner::Launch(int bucket, int slot) {
  const auto found = std::ranges::lower_bound(buckets_, bucket, {}, &Bucket::rows);
  GALE_CHECK(found != buckets_.end() && found->rows == bucket);
  found->graphs[static_cast<size_t>(slot)]->Launch(stream_);
}

bool GraphRunner::CaptureFirst(const std::function<bool(const Bucket&)>& is_due) {
  const auto bucket = std::ranges::find_if(
      buckets_, [&](const Bucket& b) { return !b.is_captured() && is_due(b); });
  if (bucket == buckets_.end()) return false;
  const int slot = bucket->graphs[0] == nullptr ? 0 : 1;
  Result<std::unique_ptr<Graph>> graph =
      backend_.Capture(stream_, [&] { enqueue_(bucket->rows, slot); });
  if (!graph || *graph == nullptr) {
    std::erase_if(buckets_, [](const Bucket& b) { return !b.is_captured(); });
    return false;
  }
  bucket->graphs[static_cast<size_t>(slot)] = *std::move(graph);
  return true;
}

}  // namespace gale
