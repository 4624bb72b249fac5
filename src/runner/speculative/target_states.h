// The target's states behind the latest tokens of every sequence, kept until a head has read them.
// Layer L4; used by proposers that guess from states.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runner/speculative/draft_proposer.h"

namespace gale {

/// A ring of rows over all sequences: a step's rows are copied as they come, side by side, and so
/// cost one copy for each layer however many sequences there are.
class TargetStates {
 public:
  /// Where the state of a position is.
  struct Row {
    int32_t position = 0;
    int32_t index = 0;
  };
  /// Rows of a step that are to be kept.
  struct Slice {
    int32_t slot = 0;
    int32_t position = 0;  ///< of the first
    int32_t first_row = 0;
    int32_t num_rows = 0;
  };

  /// A row is `planes` states of `hidden` elements.
  static size_t DeviceBytes(const StepLimits& limits, DType dtype, int64_t planes, int64_t hidden);
  Status Allocate(const DraftDevice& device, DType dtype, int64_t planes, int64_t hidden);

  /// What a step shows, as [planes, rows, hidden].
  static TensorView Planes(const TargetRows& rows);
  /// The kept rows of a sequence, by ascending position without gaps.
  std::span<const Row> Of(int32_t slot) const { return rows_[static_cast<size_t>(slot)]; }
  /// Those before `position`, or from there on, are no longer wanted.
  void DropBefore(int32_t slot, int32_t position);
  void DropFrom(int32_t slot, int32_t position);
  /// Whether so many more rows come over any that are kept.
  bool WouldOverwrite(int32_t num_rows) const;
  /// Enqueues the copies. What is overwritten is dropped, and with it what its sequence kept
  /// before.
  void Keep(const TensorView& planes, std::span<const Slice> slices);
  /// Enqueues out [n, planes * hidden] = these rows, i32 [n], of `planes` [planes, rows, hidden].
  static void Gather(const DraftDevice& device, const TensorView& planes, const TensorView& rows,
                     const TensorView& out);
  /// All rows that are kept, for Gather.
  TensorView planes() const { return ring_; }

 private:
  static int64_t NumRows(const StepLimits& limits);
  int32_t Begin(int32_t num_rows) const;

  DraftDevice device_;
  Buffer memory_;
  TensorView ring_;
  int32_t next_ = 0;
  std::vector<std::vector<Row>> rows_;  ///< [slot]
};

}  // namespace gale
