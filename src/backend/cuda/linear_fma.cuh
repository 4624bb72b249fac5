// Products in which an f32 operand must keep its precision: a tensor core takes bf16 or rounds to
// it; these tiles round nothing but the sums, which are in ascending order of k.
#pragma once

#include "backend/cuda/element.cuh"
#include "backend/cuda/linear_mma.cuh"
#include "backend/cuda/ptx.cuh"

namespace gale::cuda {

constexpr int kFmaThreads = 256;
constexpr int kFmaTile = 64;
constexpr int kFmaDepth = 16;

template <class X, class W, class Rows = SameRows>
struct FmaLinearParams {
  const X* x;  // [rows, k]
  int64_t x_stride;
  int rows;
  const W* weight;  // [columns, k]
  int64_t weight_stride;
  int columns;
  int k;
  AnyFloats bias;  // [columns], data null: none
  void* out;       // [rows, columns], bf16 or f32
  int64_t out_stride;
  bool out_is_f32;
  Rows map = {};
};

/// 64 outputs by 64 rows, a block's work; 4 x 4 of them a thread.
template <class X, class W, class Rows>
__device__ __forceinline__ void MultiplyFma(const FmaLinearParams<X, W, Rows>& p, int first_column,
                                            int first_row) {
  __shared__ float x_tile[kFmaDepth][kFmaTile + 4];
  __shared__ float weight_tile[kFmaDepth][kFmaTile + 4];
  WaitForPrerequisites();
  const int thread_column = threadIdx.x % 16 * 4;
  const int thread_row = threadIdx.x / 16 * 4;
  float acc[4][4] = {};
  for (int begin = 0; begin < p.k; begin += kFmaDepth) {
    for (int i = threadIdx.x; i < kFmaTile * kFmaDepth; i += kFmaThreads) {
      const int r = i / kFmaDepth;
      const int c = begin + i % kFmaDepth;
      const bool in_x = first_row + r < p.rows && c < p.k;
      const bool in_weight = first_column + r < p.columns && c < p.k;
      x_tile[i % kFmaDepth][r] =
          in_x ? ToF32(p.x[p.map.Read(first_row + r) * p.x_stride + c]) : 0.0F;
      weight_tile[i % kFmaDepth][r] =
          in_weight ? ToF32(p.weight[(first_column + r) * p.weight_stride + c]) : 0.0F;
    }
    __syncthreads();
#pragma unroll
    for (int c = 0; c < kFmaDepth; ++c) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int o = 0; o < 4; ++o) {
          acc[r][o] = fmaf(x_tile[c][thread_row + r], weight_tile[c][thread_column + o], acc[r][o]);
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int o = 0; o < 4; ++o) {
      const int row = first_row + thread_row + r;
      const int column = first_column + thread_column + o;
      if (row >= p.rows || column >= p.columns) continue;
      const float sum = acc[r][o] + (p.bias.data == nullptr ? 0.0F : p.bias[column]);
      const int64_t at = p.map.Written(row) * p.out_stride + column;
      if (p.out_is_f32) {
        static_cast<float*>(p.out)[at] = sum;
      } else {
        static_cast<bf16*>(p.out)[at] = __float2bfloat16(sum);
      }
    }
  }
}

/// Blocks: (64 outputs, 64 rows).
template <class X, class W>
__global__ void __launch_bounds__(kFmaThreads) LinearFmaKernel(FmaLinearParams<X, W> p) {
  LaunchDependents();
  MultiplyFma(p, static_cast<int>(blockIdx.x) * kFmaTile, static_cast<int>(blockIdx.y) * kFmaTile);
}

}  // namespace gale::cuda
