// Log-probabilities of rows of logits.
#include "backend/cuda/sampling_rows.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

struct LogprobsParams {
  LogitsRows rows;
  const int32_t* tokens;
  float* chosen;
  int k;
  int32_t* top_ids;  // [rows, k] with its stride
  int64_t ids_stride;
  float* top_logprobs;
  int64_t logprobs_stride;
};

/// Blocks: a row each. Sums in f32 over a thread's logits, in f64 over threads.
__global__ void __launch_bounds__(kRowThreads) LogprobsKernel(LogprobsParams p) {
  __shared__ Listed unsorted[kMaxListed];
  __shared__ Listed ranked[kMaxListed];
  __shared__ float maxima[kRowWarps];
  __shared__ double sums[kRowWarps];
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t row = blockIdx.x;
  const Row logits(p.rows, row);
  const float max = RowMax(p.rows, row, maxima);
  float thread_sum = 0;
  for (int i = threadIdx.x; i < p.rows.vocab; i += kRowThreads) thread_sum += expf(logits[i] - max);
  double sum = thread_sum;
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) sum += __shfl_xor_sync(~0U, sum, offset);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  sum = 0;
  for (int w = 0; w < kRowWarps; ++w) sum += sums[w];
  const double log_sum = max + log(sum);

  const int32_t token = p.tokens[row];
  if (threadIdx.x == 0 && token >= 0) {
    p.chosen[row] = static_cast<float>(logits[token] - log_sum);
  }
  int32_t* ids = p.top_ids + row * p.ids_stride;
  float* logprobs = p.top_logprobs + row * p.logprobs_stride;
  const int listed = p.rows.num_listed[row];
  if (p.k > 0 && listed >= p.k && listed <= kMaxListed) {
    LoadRanked(p.rows, row, listed, unsorted, ranked);
    for (int i = threadIdx.x; i < p.k; i += kRowThreads) {
      ids[i] = ranked[i].id;
      logprobs[i] = static_cast<float>(ranked[i].logit - log_sum);
    }
    return;
  }
  // No list: the best after the last best, k times.
  Listed last{INFINITY, -1};
  for (int n = 0; n < p.k; ++n) {
    Listed best{-INFINITY, 0x7FFFFFFF};
    for (int i = threadIdx.x; i < p.rows.vocab; i += kRowThreads) {
      const Listed candidate{logits[i], i};
      if (Likelier(last, candidate) && Likelier(candidate, best)) best = candidate;
    }
    unsorted[threadIdx.x] = best;
    __syncthreads();
    for (int half = kRowThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half && Likelier(unsorted[threadIdx.x + half], unsorted[threadIdx.x])) {
        unsorted[threadIdx.x] = unsorted[threadIdx.x + half];
      }
      __syncthreads();
    }
    last = unsorted[0];
    __syncthreads();
    if (threadIdx.x == 0) {
      ids[n] = last.id;
      logprobs[n] = static_cast<float>(last.logit - log_sum);
    }
  }
}

}  // namespace

void Logprobs(CudaStream& stream, const LogprobsArgs& args) {
  CheckLogprobsArgs(args);
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t k = args.top_ids ? args.top_ids.dim(1) : 0;
  if (rows == 0) return;
  LogprobsParams params{};
  params.rows.logits = args.logits.As<float>();
  params.rows.stride = args.logits.strides[0];
  params.rows.vocab = static_cast<int>(vocab);
  params.rows.top_k_of_all = static_cast<int32_t>(k);
  params.tokens = args.tokens.As<int32_t>();
  params.chosen = args.chosen.As<float>();
  params.k = static_cast<int>(k);
  if (k > 0) {
    params.top_ids = args.top_ids.As<int32_t>();
    params.ids_stride = args.top_ids.strides[0];
    params.top_logprobs = args.top_logprobs.As<float>();
    params.logprobs_stride = args.top_logprobs.strides[0];
  }
  if (!ReduceRows(stream, rows, &params.rows)) return;
  stream.Launch({dim3(static_cast<unsigned>(rows)), dim3(kRowThreads)}, LogprobsKernel, params);
}

}  // namespace gale::cuda
