// What the GPU can do at best: loads of its memory, and bf16 products of the tensor cores. Also
// random numbers, for weights without a checkpoint.
#include <algorithm>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/cuda/wgmma.cuh"
#include "backend/op_checks.h"
#include "base/rng.h"

namespace gale::cuda {
namespace {

// ---- reading ----

constexpr int kReadThreads = 512;
constexpr int kReadBlocksPerSm = 2;
constexpr int kReadUnroll = 8;

/// Grid-stride 16-byte loads, kReadUnroll in flight in each thread. Here as below, `sink` is null;
/// that the result could go there keeps the compiler from dropping it.
__global__ void __launch_bounds__(kReadThreads, kReadBlocksPerSm)
    ReadKernel(const uint4* data, int64_t n, uint32_t* sink) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t stride = int64_t{gridDim.x} * kReadThreads;
  int64_t i = int64_t{blockIdx.x} * kReadThreads + threadIdx.x;
  uint32_t acc = 0;
  const auto add = [&acc](const uint4& v) { acc |= v.x ^ v.y ^ v.z ^ v.w; };
  for (; i + (kReadUnroll - 1) * stride < n; i += kReadUnroll * stride) {
    uint4 v[kReadUnroll];
#pragma unroll
    for (int u = 0; u < kReadUnroll; ++u) v[u] = __ldcs(data + i + u * stride);
#pragma unroll
    for (int u = 0; u < kReadUnroll; ++u) add(v[u]);
  }
  for (; i < n; i += stride) add(__ldcs(data + i));
  if (sink != nullptr) *sink = acc;
}

// ---- products ----

constexpr int kGroupThreads = 128;  // a warp group: the four tensor cores of an SM at once
constexpr int kGroups = 2;          // one issues while the other's products run
constexpr int kM = 64;
constexpr int kN = 256;
constexpr int kK = 16;
constexpr int kChunkK = 64;  // columns of the operands that a block holds at a time
constexpr int kStages = 2;
constexpr int kStageElements = (kGroups * kM + kN) * kChunkK;
constexpr size_t kProductSharedBytes = kStages * kStageElements * sizeof(bf16);
constexpr double kUnitOperations = 2.0 * kM * kN * kK;

/// About normal, so that as many bits flip as in real products: power limits the clock.
__device__ bf16 ProbeOperand(uint32_t i) {
  const PhiloxCounter random = Philox4x32({{i, 0, 0, 0}}, {{1, 2}});
  int sum = 0;
#pragma unroll
  for (int byte = 0; byte < 4; ++byte) sum += static_cast<int>(random.words[0] >> 8 * byte & 0xFF);
  return __float2bfloat16(static_cast<float>(sum - 510) / 148);
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where a matrix without swizzle begins, and how far its 8 x 16-byte tiles lie apart along K and
/// along its rows.
__device__ uint64_t MatrixDescriptor(const bf16* tile, uint32_t k_bytes, uint32_t row_bytes) {
  const auto field = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3FFFFU) >> 4); };
  return field(SharedAddress(tile)) | field(k_bytes) << 16 | field(row_bytes) << 32;
}

/// One chunk of K: four products of a 64 x 64 tile with a 256 x 64 tile.
__device__ __forceinline__ void MultiplyChunk(float (&d)[128], const bf16* a, const bf16* b) {
  constexpr uint32_t kTileBytes = 128;
  WgmmaFence();
#pragma unroll
  for (int k = 0; k < kChunkK / kK; ++k) {
    Wgmma<kN>(d, MatrixDescriptor(a + k * kK * kM, kM / 8 * kTileBytes, kTileBytes),
              MatrixDescriptor(b + k * kK * kN, kN / 8 * kTileBytes, kTileBytes), 1);
  }
  WgmmaCommit();
  WgmmaWait<1>();
}

__device__ __forceinline__ void FinishProducts() { WgmmaWait<0>(); }

#else

/// As many operations with the instructions of older GPUs: a warp's quarter of the four products.
__device__ __forceinline__ void MultiplyChunk(float (&d)[128], const bf16* a, const bf16* b) {
  const auto* x = reinterpret_cast<const uint32_t*>(a) + threadIdx.x % kWarp;
  const auto* y = reinterpret_cast<const uint32_t*>(b) + threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < kChunkK / kK; ++k) {
#pragma unroll
    for (int tile = 0; tile < kN / 8; ++tile) {
      float(&sums)[4] = reinterpret_cast<float(&)[4]>(d[4 * tile]);
      MmaBf16(sums, x[k * 128], x[k * 128 + 32], x[k * 128 + 64], x[k * 128 + 96], y[tile % 4 * 64],
              y[tile % 4 * 64 + 32]);
    }
  }
}

__device__ __forceinline__ void FinishProducts() {}

#endif

/// `chunks` chunks in each warp group, over operands that stay in shared memory.
__global__ void __launch_bounds__(kGroups* kGroupThreads, 1)
    ProductKernel(int chunks, float* sink) {
  extern __shared__ __align__(128) bf16 operands[];  // [kStages][a of each group, b]
  LaunchDependents();
  WaitForPrerequisites();
  for (int i = threadIdx.x; i < kStages * kStageElements; i += kGroups * kGroupThreads) {
    operands[i] = ProbeOperand(static_cast<uint32_t>(i));
  }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
  __syncthreads();
  float sums[128] = {};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const bf16* stage = operands + chunk % kStages * kStageElements;
    MultiplyChunk(sums, stage + threadIdx.x / kGroupThreads * kM * kChunkK,
                  stage + kGroups * kM * kChunkK);
  }
  FinishProducts();
  float total = 0;
#pragma unroll
  for (const float sum : sums) total += sum;
  if (sink != nullptr) *sink = total;
}

// ---- random numbers ----

constexpr int kFillThreads = 256;
constexpr int kPerBlock = 8;  // 16-bit draws of one Philox block

struct FillParams {
  const float* table;
  PhiloxKey key;
  uint64_t stream;
  float mean;
  float std;
  int64_t elements;
};

template <class T>
__global__ void __launch_bounds__(kFillThreads) FillKernel(FillParams p, T* out) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t block = int64_t{blockIdx.x} * kFillThreads + threadIdx.x;
  const int64_t begin = block * kPerBlock;
  if (begin >= p.elements) return;
  const PhiloxCounter random =
      Philox4x32({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                   static_cast<uint32_t>(p.stream), static_cast<uint32_t>(p.stream >> 32)}},
                 p.key);
  float values[kPerBlock];
#pragma unroll
  for (int j = 0; j < kPerBlock; ++j) {
    const uint32_t draw = random.words[j / 2] >> (16 * (j % 2)) & 0xFFFFU;
    values[j] = __fadd_rn(p.mean, __fmul_rn(p.std, __ldg(p.table + draw)));
  }
  const bool whole = begin + kPerBlock <= p.elements && reinterpret_cast<uintptr_t>(out) % 16 == 0;
  if (whole) {
#pragma unroll
    for (int j = 0; j < kPerBlock; j += kPack<T>) {
      StorePack(out + begin + j, reinterpret_cast<const float(&)[kPack<T>]>(values[j]));
    }
    return;
  }
  for (int j = 0; j < kPerBlock && begin + j < p.elements; ++j) {
    out[begin + j] = FromF32<T>(values[j]);
  }
}

}  // namespace

void ProbeRead(CudaStream& stream, const TensorView& memory) {
  stream.Launch(
      {dim3(static_cast<unsigned>(kReadBlocksPerSm * Limits().num_sms)), dim3(kReadThreads)},
      ReadKernel, static_cast<const uint4*>(memory.data),
      static_cast<int64_t>(memory.Bytes() / sizeof(uint4)), static_cast<uint32_t*>(nullptr));
}

double ProbeProducts(CudaStream& stream) {
  constexpr double kOperations = 2.0 * 8192 * 8192 * 8192;
  constexpr double kChunkOperations = kUnitOperations * kChunkK / kK;
  const double groups = kGroups * Limits().num_sms;
  const int chunks = static_cast<int>(kOperations / (groups * kChunkOperations));
  stream.Launch({dim3(static_cast<unsigned>(Limits().num_sms)), dim3(kGroups * kGroupThreads),
                 kProductSharedBytes},
                ProductKernel, chunks, static_cast<float*>(nullptr));
  return groups * chunks * kChunkOperations;
}

double ProbeLibraryProduct(CudaStream& stream, const TensorView& memory) {
  constexpr int64_t kSide = 8192;
  constexpr size_t kMatrixBytes = kSide * kSide * sizeof(bf16);
  CublasLt* library = CublasLt::Get();
  if (library == nullptr || memory.Bytes() < 3 * kMatrixBytes) return 0;
  const auto matrix = [&](int i) {
    return TensorView(static_cast<char*>(memory.data) + i * kMatrixBytes, DType::kBf16,
                      {kSide, kSide});
  };
  PackedLinear weight;
  weight.in = kSide;
  weight.out = kSide;
  weight.data = matrix(0);
  const LinearArgs product = {.x = matrix(1), .weight = &weight, .bias = {}, .out = matrix(2)};
  return library->Run(stream, product) ? 2.0 * kSide * kSide * kSide : 0;
}

void FillRandom(CudaStream& stream, const FillRandomArgs& args) {
  CheckFillRandomArgs(args);
  const FillParams params{
      args.table.As<const float>(),
      {{static_cast<uint32_t>(args.seed), static_cast<uint32_t>(args.seed >> 32)}},
      args.stream,
      args.mean,
      args.std,
      args.out.NumElements()};
  const int64_t per_block = int64_t{kFillThreads} * kPerBlock;
  const LaunchShape shape{
      dim3(static_cast<unsigned>((params.elements + per_block - 1) / per_block)),
      dim3(kFillThreads)};
  if (args.out.dtype == DType::kF32) {
    stream.Launch(shape, FillKernel<float>, params, args.out.As<float>());
  } else {
    stream.Launch(shape, FillKernel<bf16>, params, args.out.As<bf16>());
  }
}

}  // namespace gale::cuda
