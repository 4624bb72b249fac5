// Hidden states on their way to an embedding: the rows of a step that are wanted, read back and
// summed on the host. Layer L4; owned by ModelRunner, one for each step in flight.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "gale/status.h"
#include "tensor/tensor_view.h"

namespace gale {

class PooledStates {
 public:
  void Clear() { parts_.clear(); }
  /// Rows [first_row, first_row + num_rows) of the step are wanted for its sequence `seq`.
  void Add(size_t seq, int64_t first_row, int64_t num_rows);
  /// Enqueues the copies out of `hidden`, f32 or bf16 [rows, hidden]. Takes pinned memory for them
  /// when a step first wants so many rows. Errors: kResourceExhausted.
  Status Enqueue(Backend& backend, Stream& stream, const TensorView& hidden);
  /// Calls visit(seq, sum f32 [hidden]) for each part, once the copies have been made.
  template <class Visit>
  void ForEachSum(Visit visit) const {
    for (const Part& part : parts_) visit(part.seq, Sum(part));
  }

 private:
  struct Part {
    size_t seq = 0;
    int64_t first_row = 0;
    int64_t num_rows = 0;
    int64_t host_row = 0;
  };
  std::vector<float> Sum(const Part& part) const;

  std::vector<Part> parts_;
  Buffer memory_;
  DType dtype_ = DType::kF32;
  int64_t hidden_size_ = 0;
};

}  // namespace gale
