#include "runner/pooled_states.h"

#include "base/status_macros.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

void AddTo(std::vector<float>& sum, const float* row) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += row[i];
}
void AddTo(std::vector<float>& sum, const Bf16* row) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += ToFloat(row[i]);
}

}  // namespace

void PooledStates::Add(size_t seq, int64_t first_row, int64_t num_rows) {
  const int64_t host_row = parts_.empty() ? 0 : parts_.back().host_row + parts_.back().num_rows;
  parts_.push_back({seq, first_row, num_rows, host_row});
}

Status PooledStates::Enqueue(Backend& backend, Stream& stream, const TensorView& hidden) {
  if (parts_.empty()) return {};
  dtype_ = hidden.dtype;
  hidden_size_ = hidden.dim(1);
  const size_t row_bytes = static_cast<size_t>(hidden_size_) * DTypeBytes(dtype_);
  const auto num_rows = static_cast<size_t>(parts_.back().host_row + parts_.back().num_rows);
  if (memory_.bytes() < num_rows * row_bytes) {
    memory_ = {};
    GALE_ASSIGN_OR_RETURN(memory_, backend.Allocate(num_rows * row_bytes, MemoryKind::kPinnedHost));
  }
  for (const Part& part : parts_) {
    backend.Copy(
        stream, static_cast<char*>(memory_.data()) + static_cast<size_t>(part.host_row) * row_bytes,
        hidden.Rows(part.first_row, part.first_row + part.num_rows).data,
        static_cast<size_t>(part.num_rows) * row_bytes);
  }
  return {};
}

std::vector<float> PooledStates::Sum(const Part& part) const {
  std::vector<float> sum(static_cast<size_t>(hidden_size_));
  for (int64_t i = part.host_row; i < part.host_row + part.num_rows; ++i) {
    if (dtype_ == DType::kBf16) {
      AddTo(sum, static_cast<const Bf16*>(memory_.data()) + i * hidden_size_);
    } else {
      AddTo(sum, static_cast<const float*>(memory_.data()) + i * hidden_size_);
    }
  }
  return sum;
}

}  // namespace gale
