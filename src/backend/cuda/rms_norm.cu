// RMSNorm with the residual addition before it.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
struct NormParams {
  const T* x;
  int64_t x_stride;
  AnyFloats weight;
  T* residual;  // null: none
  int64_t residual_stride;
  T* out;
  int64_t out_stride;
  int hidden;
  float eps;
  float weight_offset;
};

/// kWidth elements at a time: kPack<T> where all rows are aligned, else 1.
template <class T, int kWidth>
__device__ __forceinline__ void Load(const T* address, float (&x)[kWidth]) {
  if constexpr (kWidth == 1) {
    x[0] = ToF32(*address);
  } else {
    LoadPack(address, x);
  }
}

template <class T, int kWidth>
__device__ __forceinline__ void Store(T* address, const float (&x)[kWidth]) {
  if constexpr (kWidth == 1) {
    *address = FromF32<T>(x[0]);
  } else {
    StorePack(address, x);
  }
}

/// One block a row. The second pass reads what the first one left: a thread reads only elements
/// that it wrote itself, so `out` may be `x` or `residual`.
/// Cost: 2 or 4 times tokens * hidden elements of memory; the second pass hits the cache.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) RmsNormKernel(NormParams<T> p) {
  __shared__ float sums[kThreads / kWarp];
  LaunchDependents();
  WaitForPrerequisites();
  const T* x = p.x + blockIdx.x * p.x_stride;
  T* residual = p.residual == nullptr ? nullptr : p.residual + blockIdx.x * p.residual_stride;
  float squares = 0;
  for (int i = threadIdx.x * kWidth; i < p.hidden; i += kThreads * kWidth) {
    float value[kWidth];
    Load<T>(x + i, value);
    if (residual != nullptr) {
      float add[kWidth];
      Load<T>(residual + i, add);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) value[j] = ToF32(FromF32<T>(value[j] + add[j]));
      Store<T>(residual + i, value);
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) squares += value[j] * value[j];
  }
  const float scale = 1.0F / sqrtf(BlockAdd(squares, sums) / static_cast<float>(p.hidden) + p.eps);
  const T* source = residual != nullptr ? residual : x;
  T* out = p.out + blockIdx.x * p.out_stride;
  for (int i = threadIdx.x * kWidth; i < p.hidden; i += kThreads * kWidth) {
    float value[kWidth];
    Load<T>(source + i, value);
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
      value[j] = value[j] * scale * (p.weight_offset + p.weight[i + j]);
    Store<T>(out + i, value);
  }
}

template <class T>
void Run(CudaStream& stream, const RmsNormArgs& args) {
  NormParams<T> params{.x = args.x.As<T>(),
                       .x_stride = args.x.strides[0],
                       .weight = Floats(args.weight),
                       .residual = args.residual ? args.residual.As<T>() : nullptr,
                       .residual_stride = args.residual.strides[0],
                       .out = args.out.As<T>(),
                       .out_stride = args.out.strides[0],
                       .hidden = static_cast<int>(args.x.dim(1)),
                       .eps = args.eps,
                       .weight_offset = args.weight_offset};
  const bool packs = RowsArePacks(args.x) && RowsArePacks(args.out) &&
                     (!args.residual || RowsArePacks(args.residual));
  stream.Launch({dim3(static_cast<unsigned>(args.x.dim(0))), dim3(kThreads)},
                packs ? RmsNormKernel<T, kPack<T>> : RmsNormKernel<T, 1>, params);
}

}  // namespace

void RmsNorm(CudaStream& stream, const RmsNormArgs& args) {
  const int64_t tokens = args.x.dim(0);
  const int64_t hidden = args.x.dim(1);
  CheckActivation(args.x);
  CheckShape(args.x, {tokens, hidden});
  CheckShape(args.weight, {hidden});
  CheckArray(args.out, args.x.dtype, {tokens, hidden});
  if (args.residual) CheckArray(args.residual, args.x.dtype, {tokens, hidden});
  if (args.x.dtype == DType::kF32) {
    Run<float>(stream, args);
  } else {
    Run<bf16>(stream, args);
  }
}

}  // namespace gale::cuda
