// Rows of logits as draws and log-probabilities see them: through a mask, with the maxima of every
// 1024 logits and a short list of the likeliest. Layer L1b, device side.
#pragma once

#include <algorithm>

#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "base/rng.h"

namespace gale::cuda {

constexpr int kGroup = 1024;  // logits of one maximum
constexpr int kMaxListed = 1024;
constexpr int kRowThreads = 1024;
constexpr int kRowWarps = kRowThreads / kWarp;

/// Weights, at most 1, as integers: sums do not depend on their order. 2^23 of them fit.
constexpr float kMassScale = 0x1p40F;
using Mass = unsigned long long;

struct Listed {
  float logit;
  int32_t id;
};

struct LogitsRows {
  const float* logits;
  int64_t stride;
  int vocab;
  const int32_t* bitmask;  // null: all tokens are allowed
  int64_t bitmask_stride;
  int num_maxima;        // of a row
  float* maxima;         // [rows, num_maxima]
  int32_t* num_listed;   // [rows]; over kMaxListed: the list is not complete
  Listed* listed;        // [rows, kMaxListed]
  const int32_t* top_k;  // [rows], or null:
  int32_t top_k_of_all;
};

/// One row of logits, as seen through the mask. -0 reads as 0, so that equal values have equal
/// bits.
struct Row {
  const float* logits;
  const int32_t* bitmask;
  int vocab;

  __device__ Row(const LogitsRows& rows, int64_t row)
      : logits(rows.logits + row * rows.stride),
        bitmask(rows.bitmask == nullptr ? nullptr : rows.bitmask + row * rows.bitmask_stride),
        vocab(rows.vocab) {}
  __device__ __forceinline__ float operator[](int i) const {
    const bool allowed =
        bitmask == nullptr || (static_cast<uint32_t>(bitmask[i / 32]) >> (i % 32) & 1U) != 0;
    return allowed ? logits[i] + 0.0F : -INFINITY;
  }
};

/// Fills the scratch part of `rows`. False: there is no memory for it.
bool ReduceRows(CudaStream& stream, int64_t num_rows, LogitsRows* rows);

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    x = fmaxf(x, __shfl_xor_sync(~0U, x, offset));
  }
  return x;
}

template <class T>
__device__ __forceinline__ T WarpAdd(T x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(~0U, x, offset);
  return x;
}

__device__ __forceinline__ bool Likelier(const Listed& a, const Listed& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// Loads a row's list in the order of likelihood; `n` at most kMaxListed, one thread each.
inline __device__ void LoadRanked(const LogitsRows& rows, int64_t row, int n, Listed* unsorted,
                                  Listed* ranked) {
  Listed mine{};
  if (threadIdx.x < n) unsorted[threadIdx.x] = mine = rows.listed[row * kMaxListed + threadIdx.x];
  __syncthreads();
  if (threadIdx.x < n) {
    int rank = 0;
    for (int j = 0; j < n; ++j) rank += Likelier(unsorted[j], mine) ? 1 : 0;
    ranked[rank] = mine;
  }
  __syncthreads();
}

/// Sum over the block of kRowThreads, always in the same order. `shared` has kRowWarps elements.
template <class T>
__device__ T BlockSum(T x, T* shared) {
  x = WarpAdd(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  T sum = 0;
  for (int w = 0; w < kRowWarps; ++w) sum += shared[w];
  __syncthreads();
  return sum;
}

/// Maximum over the block of kRowThreads.
inline __device__ Mass BlockMax(Mass x, Mass* shared) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    x = max(x, __shfl_xor_sync(~0U, x, offset));
  }
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  Mass most = 0;
  for (int w = 0; w < kRowWarps; ++w) most = max(most, shared[w]);
  __syncthreads();
  return most;
}

/// The largest logit, from the maxima; the same in all threads.
inline __device__ float RowMax(const LogitsRows& rows, int64_t row, float* shared) {
  float max = -INFINITY;
  for (int i = threadIdx.x; i < rows.num_maxima; i += kRowThreads) {
    max = fmaxf(max, rows.maxima[row * rows.num_maxima + i]);
  }
  max = WarpMax(max);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = max;
  __syncthreads();
  max = shared[0];
  for (int w = 1; w < kRowWarps; ++w) max = fmaxf(max, shared[w]);
  __syncthreads();
  return max;
}

}  // namespace gale::cuda
