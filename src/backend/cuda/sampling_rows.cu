// Two kernels before any draw: MaximaKernel finds the maximum of every 1024 logits; FilterKernel
// copies the few logits that top-k can want, those not below the k-th of these maxima, to a short
// list.
#include "backend/cuda/sampling_rows.cuh"
#include "base/check.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSegment = 2 * kGroup;  // logits of a block
constexpr int kMaxMaxima = 1024;      // that the filter looks at: vocabularies up to 2^20

/// Blocks: (row, segment). maxima[i]: the largest of logits i * kGroup up to the next. A warp looks
/// at consecutive logits of its group.
__global__ void __launch_bounds__(kThreads) MaximaKernel(LogitsRows rows) {
  constexpr int kWarps = kThreads / kWarp;
  constexpr int kWarpLogits = kSegment / kWarps;
  constexpr int kGroupWarps = kGroup / kWarpLogits;
  __shared__ float warp_maxima[kWarps];
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (blockIdx.y == 0 && threadIdx.x == 0) rows.num_listed[row] = 0;
  const Row logits(rows, row);
  const int begin = static_cast<int>(blockIdx.y) * kSegment + warp * kWarpLogits;
  float max = -INFINITY;
#pragma unroll
  for (int j = 0; j < kWarpLogits; j += kWarp) {
    const int i = begin + j + lane;
    if (i < rows.vocab) max = fmaxf(max, logits[i]);
  }
  max = WarpMax(max);
  if (lane == 0) warp_maxima[warp] = max;
  __syncthreads();
  const int group =
      static_cast<int>(blockIdx.y) * (kSegment / kGroup) + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kSegment / kGroup && group < rows.num_maxima) {
    max = warp_maxima[threadIdx.x * kGroupWarps];
    for (int w = 1; w < kGroupWarps; ++w) {
      max = fmaxf(max, warp_maxima[threadIdx.x * kGroupWarps + w]);
    }
    rows.maxima[row * rows.num_maxima + group] = max;
  }
}

/// Blocks: (row, segment). Lists the possible tokens whose logits are not below the k-th largest
/// maximum: the k likeliest are among them. Fewer than k maxima: lists all, if they are few enough.
__global__ void __launch_bounds__(kThreads) FilterKernel(LogitsRows rows) {
  __shared__ float maxima[kMaxMaxima];
  __shared__ float bound;
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const int k = rows.top_k == nullptr ? rows.top_k_of_all : rows.top_k[row];
  if (k <= 0 || k >= rows.vocab) return;
  if (k > rows.num_maxima && rows.vocab > kMaxListed) {
    if (blockIdx.y == 0 && threadIdx.x == 0) rows.num_listed[row] = kMaxListed + 1;
    return;
  }
  if (threadIdx.x == 0) bound = -INFINITY;
  for (int i = threadIdx.x; i < rows.num_maxima; i += kThreads) {
    maxima[i] = rows.maxima[row * rows.num_maxima + i];
  }
  __syncthreads();
  if (k <= rows.num_maxima) {
    for (int i = threadIdx.x; i < rows.num_maxima; i += kThreads) {
      const float mine = maxima[i];
      int rank = 0;
      for (int j = 0; j < rows.num_maxima; ++j) {
        rank += maxima[j] > mine || (maxima[j] == mine && j < i) ? 1 : 0;
      }
      if (rank == k - 1) bound = mine;
    }
  }
  __syncthreads();
  const Row logits(rows, row);
  const int begin = static_cast<int>(blockIdx.y) * kSegment;
  for (int i = begin + threadIdx.x; i < min(begin + kSegment, rows.vocab); i += kThreads) {
    const float logit = logits[i];
    if (!(logit >= bound) || logit == -INFINITY) continue;
    const int at = atomicAdd(&rows.num_listed[row], 1);
    if (at < kMaxListed) rows.listed[row * kMaxListed + at] = {logit, i};
  }
}

}  // namespace

bool ReduceRows(CudaStream& stream, int64_t num_rows, LogitsRows* rows) {
  constexpr size_t kAlignment = 256;
  const auto aligned = [](size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  rows->num_maxima = (rows->vocab + kGroup - 1) / kGroup;
  GALE_CHECK_LE(rows->num_maxima, kMaxMaxima);
  const auto n = static_cast<size_t>(num_rows);
  const size_t maxima_bytes = aligned(n * static_cast<size_t>(rows->num_maxima) * sizeof(float));
  const size_t counts_bytes = aligned(n * sizeof(int32_t));
  auto* scratch = static_cast<char*>(
      stream.Scratch(maxima_bytes + counts_bytes + n * kMaxListed * sizeof(Listed)));
  if (scratch == nullptr) return false;
  rows->maxima = reinterpret_cast<float*>(scratch);
  rows->num_listed = reinterpret_cast<int32_t*>(scratch + maxima_bytes);
  rows->listed = reinterpret_cast<Listed*>(scratch + maxima_bytes + counts_bytes);
  const LaunchShape shape{dim3(static_cast<unsigned>(num_rows),
                               static_cast<unsigned>((rows->vocab + kSegment - 1) / kSegment)),
                          dim3(kThreads)};
  stream.Launch(shape, MaximaKernel, *rows);
  stream.Launch(shape, FilterKernel, *rows);
  return true;
}

}  // namespace gale::cuda
