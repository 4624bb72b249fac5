// Penalties, biases and bans on rows of logits. A block owns a segment of the vocabulary of one
// row: it counts in shared memory how often the history has the segment's tokens, so that nothing
// but the history itself is kept between steps.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/logits_edit.h"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kSegment = 8192;  // tokens; counts and matches of them take 64 KiB

struct Edit {
  const float* logits;
  int64_t logits_stride;
  int vocab;
  const int32_t* slots;
  const int32_t* lengths;
  const int32_t* history;
  int64_t history_stride;
  const int32_t* edits;
  int64_t edits_stride;
  const int32_t* allowed;
  int64_t allowed_stride;
  float* out;
  int64_t out_stride;
};

/// A segment of one row; all members are called by all threads of the block.
class SegmentEdit {
 public:
  __device__ SegmentEdit(const Edit& e, int64_t row, int begin, int32_t* shared)
      : record_(e.edits + e.slots[row] * e.edits_stride),
        edit_(record_.edit()),
        history_(e.history + e.slots[row] * e.history_stride),
        allowed_(e.allowed + e.slots[row] * e.allowed_stride),
        length_(e.lengths[row]),
        begin_(begin),
        size_(min(kSegment, e.vocab - begin)),
        counts_(shared),
        matches_(shared + kSegment) {}

  /// logits and out: of the row, [vocab].
  __device__ void Run(const float* logits, float* out) {
    const bool penalizes = edit_.has_penalties();
    const bool breaks_repeats = edit_.dry_multiplier > 0;
    if (penalizes || breaks_repeats) ReadHistory(penalizes, breaks_repeats);
    for (int i = threadIdx.x; i < size_; i += kThreads) {
      float logit = logits[begin_ + i];
      if (penalizes && counts_[i] >= 0) logit = Penalized(edit_, logit, counts_[i]);
      if (breaks_repeats && matches_[i] > 0) logit -= DryPenalty(edit_, matches_[i]);
      out[begin_ + i] = logit;
    }
    for (const bool bans : {false, true}) {
      __syncthreads();
      Bias(out, bans);
    }
    __syncthreads();
    if (edit_.is_masked != 0) Mask(out);
  }

 private:
  /// counts: -1 for a token that was not said, else how often it was drawn.
  __device__ void ReadHistory(bool penalizes, bool breaks_repeats) {
    for (int i = threadIdx.x; i < size_; i += kThreads) {
      counts_[i] = 0;
      matches_[i] = 0;
    }
    __syncthreads();
    const int32_t dry_begin = record_.DryBegin(length_);
    for (int position = threadIdx.x; position < length_; position += kThreads) {
      const int token = history_[position] - begin_;
      if (token < 0 || token >= size_) continue;
      // Twice the number of draws, and 1 for the prompt: the sum of parts, in any order.
      if (penalizes) {
        if (position >= edit_.num_prompt) {
          atomicAdd(&counts_[token], 2);
        } else {
          atomicOr(&counts_[token], 1);
        }
      }
      if (breaks_repeats && position > dry_begin && !record_.IsBreaker(token + begin_)) {
        const int32_t match = record_.DryMatch(history_, position, length_);
        if (match > 0) atomicMax(&matches_[token], match);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < size_; i += kThreads) {
      counts_[i] = counts_[i] == 0 ? -1 : counts_[i] / 2;
    }
  }

  __device__ void Bias(float* out, bool bans) const {
    for (int i = threadIdx.x; i < edit_.num_biases; i += kThreads) {
      const SequenceBias& bias = record_.biases()[i];
      const int32_t token = record_.LastToken(bias);
      if (bias.is_ban() != bans || token < begin_ || token >= begin_ + size_) continue;
      if (!record_.Applies(bias, history_, length_)) continue;
      // Finite biases are of different tokens; bans of one token write the same.
      out[token] = bans ? fminf(out[token], kBannedLogit) : out[token] + bias.bias;
    }
  }

  __device__ void Mask(float* out) const {
    for (int i = begin_ + static_cast<int>(threadIdx.x); i < begin_ + size_; i += kThreads) {
      const bool is_allowed = (static_cast<uint32_t>(allowed_[i / 32]) >> (i % 32) & 1U) != 0;
      if (!is_allowed) out[i] = -INFINITY;
    }
  }

  LogitsEditRecord record_;
  const LogitsEdit& edit_;
  const int32_t* history_;
  const int32_t* allowed_;
  int32_t length_;
  int begin_;
  int size_;
  int32_t* counts_;
  int32_t* matches_;
};

/// Blocks: (row, segment).
__global__ void __launch_bounds__(kThreads) EditKernel(Edit e) {
  extern __shared__ int32_t shared[];
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const int begin = static_cast<int>(blockIdx.y) * kSegment;
  const float* logits = e.logits + row * e.logits_stride;
  float* out = e.out + row * e.out_stride;
  if (e.slots[row] >= 0) {
    SegmentEdit(e, row, begin, shared).Run(logits, out);
    return;
  }
  if (out == logits) return;
  for (int i = begin + static_cast<int>(threadIdx.x); i < min(begin + kSegment, e.vocab);
       i += kThreads) {
    out[i] = logits[i];
  }
}

}  // namespace

void EditLogits(CudaStream& stream, const EditLogitsArgs& args) {
  CheckEditLogitsArgs(args);
  const int64_t vocab = args.logits.dim(1);
  const Edit edit{.logits = args.logits.As<float>(),
                  .logits_stride = args.logits.strides[0],
                  .vocab = static_cast<int>(vocab),
                  .slots = args.slots.As<int32_t>(),
                  .lengths = args.lengths.As<int32_t>(),
                  .history = args.history.As<int32_t>(),
                  .history_stride = args.history.strides[0],
                  .edits = args.edits.As<int32_t>(),
                  .edits_stride = args.edits.strides[0],
                  .allowed = args.allowed.As<int32_t>(),
                  .allowed_stride = args.allowed.strides[0],
                  .out = args.out.As<float>(),
                  .out_stride = args.out.strides[0]};
  const LaunchShape shape{dim3(static_cast<unsigned>(args.logits.dim(0)),
                               static_cast<unsigned>((vocab + kSegment - 1) / kSegment)),
                          dim3(kThreads), 2 * kSegment * sizeof(int32_t)};
  stream.Launch(shape, EditKernel, edit);
}

}  // namespace gale::cuda
