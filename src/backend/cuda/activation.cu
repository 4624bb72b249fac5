// The gated activation of the MLP, and the soft cap of logits.
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

struct Clamping {
  float alpha;
  float limit;
};

/// (1 + tanh(t)) / 2 is 1 / (1 + exp(-2 t)), so all gates are x / (1 + exp(-steepness)).
template <Activation kActivation>
__device__ __forceinline__ float Gated(float gate, float up, const Clamping& clamping) {
  constexpr float kTwiceRootTwoOverPi = 1.59576912F;
  float steepness = gate;
  if constexpr (kActivation == Activation::kGeluTanh) {
    steepness = kTwiceRootTwoOverPi * fmaf(0.044715F * (gate * gate), gate, gate);
  }
  if constexpr (kActivation == Activation::kClampedSwiglu) {
    gate = fminf(gate, clamping.limit);
    up = fminf(fmaxf(up, -clamping.limit), clamping.limit) + 1.0F;
    steepness = clamping.alpha * gate;
  }
  return gate / (1.0F + expf(-steepness)) * up;
}

/// Blocks: (row, stretch of columns). Strides in elements.
template <class T, Activation kActivation>
__global__ void GatedActivationKernel(const T* gate_up, int64_t gate_up_stride, T* out,
                                      int64_t out_stride, int columns, bool packs,
                                      Clamping clamping) {
  LaunchDependents();
  WaitForPrerequisites();
  const T* gate = gate_up + blockIdx.x * gate_up_stride;
  const T* up = gate + columns;
  T* row = out + blockIdx.x * out_stride;
  const int thread = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  const int threads = static_cast<int>(gridDim.y) * kThreads;
  if (packs) {
    for (int i = thread * kPack<T>; i < columns; i += threads * kPack<T>) {
      float g[kPack<T>];
      float u[kPack<T>];
      LoadPack(gate + i, g);
      LoadPack(up + i, u);
#pragma unroll
      for (int j = 0; j < kPack<T>; ++j) g[j] = Gated<kActivation>(g[j], u[j], clamping);
      StorePack(row + i, g);
    }
  } else {
    for (int i = thread; i < columns; i += threads) {
      row[i] = FromF32<T>(Gated<kActivation>(ToF32(gate[i]), ToF32(up[i]), clamping));
    }
  }
}

/// Blocks: (row, stretch of columns). Strides in elements.
template <class T>
__global__ void AddSiluKernel(T* x, int64_t x_stride, const T* y, int64_t y_stride, int columns) {
  LaunchDependents();
  WaitForPrerequisites();
  T* row = x + blockIdx.x * x_stride;
  const T* added = y + blockIdx.x * y_stride;
  const int threads = static_cast<int>(gridDim.y) * kThreads;
  for (int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x); i < columns; i += threads) {
    const float value = ToF32(added[i]);
    row[i] = FromF32<T>(ToF32(row[i]) + value / (1.0F + expf(-value)));
  }
}

__global__ void SoftcapKernel(float* x, int64_t stride, int columns, float cap) {
  LaunchDependents();
  WaitForPrerequisites();
  float* row = x + blockIdx.x * stride;
  const int threads = static_cast<int>(gridDim.y) * kThreads;
  for (int i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x); i < columns; i += threads) {
    row[i] = cap * tanhf(row[i] / cap);
  }
}

template <class T>
auto* KernelFor(Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh: return GatedActivationKernel<T, Activation::kGeluTanh>;
    case Activation::kClampedSwiglu: return GatedActivationKernel<T, Activation::kClampedSwiglu>;
    default: return GatedActivationKernel<T, Activation::kSilu>;
  }
}

template <class T>
void Run(CudaStream& stream, const GatedActivationArgs& args) {
  const int64_t columns = args.out.dim(1);
  // The halves of a row are aligned when `out`'s width is a multiple of a pack.
  const bool packs = RowsArePacks(args.gate_up) && RowsArePacks(args.out);
  const int64_t per_block = int64_t{kThreads} * kPack<T>;
  const auto stretches = static_cast<unsigned>((columns + per_block - 1) / per_block);
  stream.Launch({dim3(static_cast<unsigned>(args.out.dim(0)), stretches), dim3(kThreads)},
                KernelFor<T>(args.activation), args.gate_up.As<T>(), args.gate_up.strides[0],
                args.out.As<T>(), args.out.strides[0], static_cast<int>(columns), packs,
                Clamping{args.alpha, args.limit});
}

}  // namespace

void GatedActivation(CudaStream& stream, const GatedActivationArgs& args) {
  const int64_t tokens = args.out.dim(0);
  const int64_t columns = args.out.dim(1);
  CheckActivation(args.gate_up);
  CheckShape(args.gate_up, {tokens, 2 * columns});
  CheckArray(args.out, args.gate_up.dtype, {tokens, columns});
  if (args.out.dtype == DType::kF32) {
    Run<float>(stream, args);
  } else {
    Run<bf16>(stream, args);
  }
}

void AddSilu(CudaStream& stream, const AddSiluArgs& args) {
  const int64_t rows = args.x.dim(0);
  const int64_t columns = args.x.dim(1);
  CheckActivation(args.x);
  CheckArray(args.y, args.x.dtype, {rows, columns});
  const auto stretches = static_cast<unsigned>((columns + kThreads - 1) / kThreads);
  const LaunchShape shape{dim3(static_cast<unsigned>(rows), stretches), dim3(kThreads)};
  if (args.x.dtype == DType::kF32) {
    stream.Launch(shape, AddSiluKernel<float>, args.x.As<float>(), args.x.strides[0],
                  static_cast<const float*>(args.y.As<float>()), args.y.strides[0],
                  static_cast<int>(columns));
  } else {
    stream.Launch(shape, AddSiluKernel<bf16>, args.x.As<bf16>(), args.x.strides[0],
                  static_cast<const bf16*>(args.y.As<bf16>()), args.y.strides[0],
                  static_cast<int>(columns));
  }
}

void Softcap(CudaStream& stream, const SoftcapArgs& args) {
  const int64_t rows = args.x.dim(0);
  const int64_t columns = args.x.dim(1);
  CheckArray(args.x, DType::kF32, {rows, columns});
  GALE_CHECK_GT(args.cap, 0.0F);
  constexpr int64_t kPerThread = 8;
  constexpr int64_t kPerBlock = kThreads * kPerThread;
  const auto stretches = static_cast<unsigned>((columns + kPerBlock - 1) / kPerBlock);
  stream.Launch({dim3(static_cast<unsigned>(rows), stretches), dim3(kThreads)}, SoftcapKernel,
                args.x.As<float>(), args.x.strides[0], static_cast<int>(columns), args.cap);
}

}  // namespace gale::cuda
