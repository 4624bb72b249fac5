#include "runner/speculative/target_states.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gale {

/// Room for four steps with the longest drafts: while nobody drafts, so many steps more that heads
/// catch up with many tokens of a sequence at once.
int64_t TargetStates::NumRows(const StepLimits& limits) {
  return int64_t{4} * limits.max_seqs * (1 + limits.max_draft_tokens);
}

size_t TargetStates::DeviceBytes(const StepLimits& limits, DType dtype, int64_t planes,
                                 int64_t hidden) {
  return static_cast<size_t>(planes * NumRows(limits) * hidden) * DTypeBytes(dtype);
}

Status TargetStates::Allocate(const DraftDevice& device, DType dtype, int64_t planes,
                              int64_t hidden) {
  device_ = device;
  const size_t bytes = DeviceBytes(device.limits, dtype, planes, hidden);
  GALE_ASSIGN_OR_RETURN(memory_, device.backend->Allocate(bytes, MemoryKind::kDevice));
  ring_ = TensorView(memory_.data(), dtype, {planes, NumRows(device.limits), hidden});
  rows_.resize(static_cast<size_t>(device.limits.max_seqs));
  return {};
}

TensorView TargetStates::Planes(const TargetRows& rows) {
  if (rows.captured) return rows.captured;
  return TensorView(rows.hidden.data, rows.hidden.dtype,
                    {1, rows.hidden.dim(0), rows.hidden.dim(1)});
}

void TargetStates::DropBefore(int32_t slot, int32_t position) {
  std::erase_if(rows_[static_cast<size_t>(slot)],
                [=](const Row& row) { return row.position < position; });
}

void TargetStates::DropFrom(int32_t slot, int32_t position) {
  std::erase_if(rows_[static_cast<size_t>(slot)],
                [=](const Row& row) { return row.position >= position; });
}

/// A step's rows are not cut where the ring ends.
int32_t TargetStates::Begin(int32_t num_rows) const {
  GALE_CHECK_LE(num_rows, ring_.dim(1));
  return next_ + num_rows <= ring_.dim(1) ? next_ : 0;
}

bool TargetStates::WouldOverwrite(int32_t num_rows) const {
  const int32_t begin = Begin(num_rows);
  return std::ranges::any_of(rows_, [&](const std::vector<Row>& rows) {
    return std::ranges::any_of(
        rows, [&](const Row& row) { return row.index >= begin && row.index < begin + num_rows; });
  });
}

void TargetStates::Keep(const TensorView& planes, std::span<const Slice> slices) {
  int32_t total = 0;
  for (const Slice& slice : slices) total += slice.num_rows;
  const int32_t begin = Begin(total);
  next_ = begin + total;
  for (std::vector<Row>& rows : rows_) {
    const auto last = std::find_if(rows.rbegin(), rows.rend(), [&](const Row& row) {
      return row.index >= begin && row.index < next_;
    });
    rows.erase(rows.begin(), last.base());
  }
  int32_t index = begin;
  for (size_t i = 0; i < slices.size();) {
    const int32_t first_row = slices[i].first_row;
    int32_t num_rows = 0;
    for (; i < slices.size() && slices[i].first_row == first_row + num_rows; ++i) {
      std::vector<Row>& rows = rows_[static_cast<size_t>(slices[i].slot)];
      for (int32_t row = 0; row < slices[i].num_rows; ++row) {
        rows.push_back({slices[i].position + row, index + num_rows + row});
      }
      num_rows += slices[i].num_rows;
    }
    for (int64_t plane = 0; plane < ring_.dim(0); ++plane) {
      const TensorView to = ring_.Slice(0, plane, plane + 1).Slice(1, index, index + num_rows);
      const TensorView from =
          planes.Slice(0, plane, plane + 1).Slice(1, first_row, first_row + num_rows);
      device_.backend->Copy(*device_.stream, to.data, from.data, to.Bytes());
    }
    index += num_rows;
  }
}

void TargetStates::Gather(const DraftDevice& device, const TensorView& planes,
                          const TensorView& rows, const TensorView& out) {
  const int64_t hidden = planes.dim(2);
  for (int64_t plane = 0; plane < planes.dim(0); ++plane) {
    GatherRowsArgs gather;
    gather.x =
        TensorView(planes.Slice(0, plane, plane + 1).data, planes.dtype, {planes.dim(1), hidden});
    gather.rows = rows;
    gather.out = out.Slice(1, plane * hidden, (plane + 1) * hidden);
    device.backend->GatherRows(*device.stream, gather);
  }
}

}  // namespace gale
