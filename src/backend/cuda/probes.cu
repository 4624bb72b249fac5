// What the GPU can do at best: loads of its memory, and bf16 products of the tensor cores. Also
// random numbers, for weights without a checkpoint.
#include <algorithm>

#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
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

/// d += a * b^T: a 64 x 16, b 256 x 16, in shared memory.
__device__ __forceinline__ void MultiplyGroup(float (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n"
      ".reg .pred add;\n"
      "setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
      "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
      "%128, %129, add, 1, 1, 0, 0;\n"
      "}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]),
        "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
        "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]),
        "+f"(d[63]), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]),
        "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]),
        "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]),
        "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]),
        "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]),
        "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
        "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]),
        "+f"(d[110]), "+f"(d[111]), "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]),
        "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]), "+f"(d[121]),
        "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
      : "l"(a), "l"(b));
}

/// One chunk of K: four products of a 64 x 64 tile with a 256 x 64 tile.
__device__ __forceinline__ void MultiplyChunk(float (&d)[128], const bf16* a, const bf16* b) {
  constexpr uint32_t kTileBytes = 128;
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
  for (int k = 0; k < kChunkK / kK; ++k) {
    MultiplyGroup(d, MatrixDescriptor(a + k * kK * kM, kM / 8 * kTileBytes, kTileBytes),
                  MatrixDescriptor(b + k * kK * kN, kN / 8 * kTileBytes, kTileBytes));
  }
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

__device__ __forceinline__ void FinishProducts() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

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
