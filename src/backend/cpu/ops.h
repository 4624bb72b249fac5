// The ops of the CPU back end as functions, one file per family. Layer L1b. Arguments are checked
// here; the arithmetic is in the kernels.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "backend/op_checks.h"
#include "base/thread_pool.h"

namespace gale::cpu {

/// Memory that grows to what was ever asked of it; its contents do not survive the next request.
class Scratch {
 public:
  float* Floats(int64_t n);  ///< 64-byte aligned, uninitialized

 private:
  struct Free {
    void operator()(void* p) const;
  };
  std::unique_ptr<void, Free> data_;
  int64_t capacity_ = 0;
};

/// What the ops of one back end share. An op holds `mutex` while it runs: the scratch is one.
struct Context {
  Context(const CpuKernels& kernels_, int threads)
      : kernels(kernels_), pool(threads), thread_scratch(static_cast<size_t>(threads)) {}

  const CpuKernels& kernels;
  ThreadPool pool;
  std::mutex mutex;
  Scratch shared_scratch;
  std::vector<Scratch> thread_scratch;  ///< [thread]
};

/// Splits `rows` rows of about `row_cost` elements so that a task is worth handing to a thread, and
/// calls body(first row, end row, thread).
template <class Body>
void ForRows(Context& context, int64_t rows, int64_t row_cost, Body&& body) {
  constexpr int64_t kTaskElements = 8192;  // a few microseconds
  const int64_t step =
      row_cost >= kTaskElements ? 1 : kTaskElements / (row_cost > 0 ? row_cost : 1);
  context.pool.ParallelFor((rows + step - 1) / step, [&](int64_t task, int thread) {
    body(task * step, (task + 1) * step < rows ? (task + 1) * step : rows, thread);
  });
}

/// Address of element [row, 0, ...].
inline void* RowAt(const TensorView& view, int64_t row) {
  return static_cast<char*>(view.data) +
         row * view.strides[0] * static_cast<int64_t>(DTypeBytes(view.dtype));
}

void Embedding(Context& context, const EmbeddingArgs& args);
void GatherRows(Context& context, const GatherRowsArgs& args);
void RmsNorm(Context& context, const RmsNormArgs& args);
void QkvRope(Context& context, const QkvRopeArgs& args);
void GatedActivation(Context& context, const GatedActivationArgs& args);
void AddSilu(Context& context, const AddSiluArgs& args);
void Softcap(Context& context, const SoftcapArgs& args);
void Rotate(Context& context, const RotateArgs& args);
void MoeRoute(Context& context, const MoeRouteArgs& args);
void MoeCombine(Context& context, const MoeCombineArgs& args);
void EditLogits(Context& context, const EditLogitsArgs& args);
void Sample(Context& context, const SampleArgs& args);
void Logprobs(Context& context, const LogprobsArgs& args);
void FillRandom(Context& context, const FillRandomArgs& args);
void ProbeRead(Context& context, const TensorView& memory);
double ProbeProducts(Context& context);

/// Zeroed memory in large pages where the system has them.
Result<Buffer> AllocateMemory(size_t bytes);

std::unique_ptr<AttentionBackend> CreateAttention(Context& context, const AttentionSpec& spec);

}  // namespace gale::cpu
