// Products of many rows with quantized weights by way of plain matrices: a stretch of outputs at a
// time is unpacked to memory that stays in L2 for the most part, as bf16, or as the 8-bit floats
// that it is for formats whose rows are to be rounded to such, and multiplied by the vendor's
// library.
#include <algorithm>

#include <cuda_fp8.h>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/linear_quant.cuh"
#include "backend/cuda/ops.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kStretchElements = int64_t{1} << 25;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// Where blocks are unpacked to.
struct PlainMatrix {
  uint8_t* data;  // [rows, stride bytes]
  int64_t stride;
  int rows;
  float* scales;  // [rows], of codes; null: of bf16, which has them applied
};

/// Packs of 16 bytes from a warp's part of a tile to the matrix.
template <int kRowBytes>
__device__ __forceinline__ void StoreRows(const uint8_t (*tile)[kRowBytes + 16],
                                          const PlainMatrix& out, int row, int64_t byte) {
  constexpr int kPacks = kRowBytes / 16;
  const int lane = threadIdx.x % kWarp;
  __syncwarp();
#pragma unroll
  for (int first = 0; first < 16; first += kWarp / kPacks) {
    const int at = first + lane / kPacks;
    const int64_t to = byte + lane % kPacks * 16;
    if (row + at < out.rows && to < out.stride) {
      *reinterpret_cast<uint4*>(out.data + (row + at) * out.stride + to) =
          *reinterpret_cast<const uint4*>(&tile[at][lane % kPacks * 16]);
    }
  }
}

/// Blocks: (along the columns, along the outputs from `first_tile` on). Cost: reads the packed
/// bytes, writes 2 for each code.
template <CodeType kCode, int kGroups>
__global__ void __launch_bounds__(kThreads)
    UnpackBf16Kernel(QuantParams p, int first_tile, PlainMatrix out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Codes = Unpacker<kCode>;
  __shared__ __align__(16) uint8_t tiles[kThreads / kWarp][16][kQuantTile * 2 + 16];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  LaunchDependents();
  const uint8_t* block =
      p.blocks + (int64_t{first_tile + static_cast<int>(blockIdx.y)} * p.product.k_tiles +
                  static_cast<int>(blockIdx.x)) *
                     p.block.Bytes();
  const QuantLane quant_lane(p);
  GroupValues<Codes> group;
  uint32_t words[4 * Codes::kWords];
#pragma unroll
  for (int quarter = 0; quarter < kQuarters; ++quarter) {
    if (quarter % (kQuarters / kGroups) == 0) {
      group.Load(p, quant_lane, block, quarter / (kQuarters / kGroups));
    }
    if (quarter % 2 == 0) LoadCodes<Codes, 2>(quant_lane, block, quarter, words);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t a[4];
      Codes::Unpack(&words[(quarter % 2 * 2 + i) * Codes::kWords], group.zeros, a);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        a[j] = ScalePair(a[j], j % 2 == 0 ? group.scales.x : group.scales.y);
      }
      StoreMatrices(&tiles[warp][lane % 16][quarter * 64 + i * 32 + lane / 16 * 16], a[0], a[1],
                    a[2], a[3]);
    }
  }
  WaitForPrerequisites();  // those may still read what is overwritten
  StoreRows<kQuantTile * 2>(tiles[warp], out, static_cast<int>(blockIdx.y) * kQuantTile + warp * 16,
                            int64_t{blockIdx.x} * kQuantTile * 2);
#endif
}

/// The same of bytes as they are, and of their outputs' scales.
__global__ void __launch_bounds__(kThreads)
    UnpackBytesKernel(QuantParams p, int first_tile, PlainMatrix out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ __align__(16) uint8_t tiles[kThreads / kWarp][16][kQuantTile + 16];
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  LaunchDependents();
  const uint8_t* block =
      p.blocks + (int64_t{first_tile + static_cast<int>(blockIdx.y)} * p.product.k_tiles +
                  static_cast<int>(blockIdx.x)) *
                     p.block.Bytes();
  const auto* codes = reinterpret_cast<const uint4*>(block) + warp * (4 * kWarp) + lane;
#pragma unroll
  for (int vector = 0; vector < 4; ++vector) {
    const uint4 bytes = codes[vector * kWarp];
    const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = vector * 32 + i * 8 + lane % 4 * 2;
      const auto pair = [&](int selector) {
        return static_cast<uint16_t>(__byte_perm(words[i], 0, selector));
      };
      *reinterpret_cast<uint16_t*>(&tiles[warp][lane / 4][column]) = pair(0x4420);
      *reinterpret_cast<uint16_t*>(&tiles[warp][lane / 4 + 8][column]) = pair(0x4431);
    }
  }
  const int row = static_cast<int>(blockIdx.y) * kQuantTile + warp * 16;
  WaitForPrerequisites();
  StoreRows<kQuantTile>(tiles[warp], out, row, int64_t{blockIdx.x} * kQuantTile);
  if (blockIdx.x > 0 || lane >= 8) return;
  // Scales of outputs 8 apart are neighbours.
  const AnyFloats packed = {block + p.block.code_bytes, p.scale};
  const int pair = 2 * (warp * 8 + lane);
  const float2 scales = {packed[pair], packed[pair + 1]};
  if (row + lane < out.rows) out.scales[row + lane] = scales.x;
  if (row + lane + 8 < out.rows) out.scales[row + lane + 8] = scales.y;
#endif
}

/// Rows to 8-bit floats times a scale: `given`, or if 0 the largest magnitude over theirs. Blocks:
/// rows.
__global__ void __launch_bounds__(kThreads)
    RoundRowsKernel(const bf16* x, int64_t x_stride, int k, float given, uint8_t* out,
                    int64_t stride, float* scales) {
  constexpr float kLargest = 448;
  __shared__ float shared[kThreads / kWarp];
  LaunchDependents();
  WaitForPrerequisites();
  const bf16* row = x + blockIdx.x * x_stride;
  float largest = 0;
  if (given == 0) {
    for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
      largest = fmaxf(largest, fabsf(__bfloat162float(row[i])));
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, offset));
    }
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = largest;
    __syncthreads();
    for (const float other : shared) largest = fmaxf(largest, other);
  }
  const float scale = given > 0 ? given : largest / kLargest;
  const float inverse = given > 0 ? 1 / given : largest > 0 ? kLargest / largest : 0.0F;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (int i = static_cast<int>(threadIdx.x); i < stride; i += kThreads) {
    const float value = i < k ? __bfloat162float(row[i]) * inverse : 0.0F;
    out[blockIdx.x * stride + i] = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
  }
}

/// Outputs `first` on, `n` of them, of a bias or of `out`.
TensorView Columns(const TensorView& view, int64_t first, int64_t n) {
  if (!view) return view;
  TensorView part = view;
  part.data = static_cast<char*>(view.data) + first * static_cast<int64_t>(DTypeBytes(view.dtype));
  part.dims[view.rank - 1] = n;
  return part;
}

template <CodeType kCode>
void UnpackBf16(CudaStream& stream, const QuantParams& p, int first_tile, const PlainMatrix& out) {
  const LaunchShape shape = {dim3(static_cast<unsigned>(p.product.k_tiles),
                                  static_cast<unsigned>((out.rows + kQuantTile - 1) / kQuantTile)),
                             dim3(kThreads)};
  p.block.groups == 1
      ? stream.Launch(shape, UnpackBf16Kernel<kCode, 1>, p, first_tile, out)
      : stream.Launch(shape, UnpackBf16Kernel<kCode, kCodeGroups>, p, first_tile, out);
}

void RunBf16(CudaStream& stream, const QuantParams& p, const LinearArgs& args, uint8_t* memory) {
  const QuantFormat bf16_format = {.code = BlockCode::kNone, .data = DType::kBf16};
  const PackedLinear& weight = *args.weight;
  constexpr int64_t kPackElements = 8;
  const int64_t stride = RoundUp(weight.in, kPackElements);
  const int64_t outputs = kStretchElements / stride / kQuantTile * kQuantTile;
  const LinearKernel* kernel =
      FindLinear({bf16_format, weight.in, weight.out, DType::kBf16, Numerics::kFast});
  for (int64_t first = 0; first < weight.out; first += outputs) {
    const int64_t n = std::min(outputs, weight.out - first);
    const PlainMatrix plain = {memory, stride * 2, static_cast<int>(n), nullptr};
    const auto tile = static_cast<int>(first / kQuantTile);
    switch (weight.format.codes) {
      case CodeType::kUInt4: UnpackBf16<CodeType::kUInt4>(stream, p, tile, plain); break;
      case CodeType::kF8E4M3: UnpackBf16<CodeType::kF8E4M3>(stream, p, tile, plain); break;
      default: UnpackBf16<CodeType::kInt8>(stream, p, tile, plain);
    }
    PackedLinear part;
    part.format = bf16_format;
    part.in = weight.in;
    part.out = n;
    part.data = TensorView(memory, DType::kBf16, {n, weight.in});
    part.data.strides[0] = stride;
    kernel->Run(stream, {.x = args.x,
                         .weight = &part,
                         .bias = Columns(args.bias, first, n),
                         .out = Columns(args.out, first, n)});
  }
}

/// False, with nothing that matters enqueued, where the library does not take it.
bool RunF8(CudaStream& stream, const QuantParams& p, const LinearArgs& args, uint8_t* memory) {
  const PackedLinear& weight = *args.weight;
  const int64_t rows = args.x.dim(0);
  const int64_t stride = RoundUp(weight.in, 16);
  const int64_t outputs = kStretchElements / stride / kQuantTile * kQuantTile;
  auto* x_scales = reinterpret_cast<float*>(memory);
  auto* weight_scales = x_scales + RoundUp(rows, 64);
  auto* x = reinterpret_cast<uint8_t*>(weight_scales + RoundUp(weight.out, 64));
  uint8_t* codes = x + rows * stride;
  stream.Launch({dim3(static_cast<unsigned>(rows)), dim3(kThreads)}, RoundRowsKernel,
                args.x.As<const bf16>(), args.x.strides[0], static_cast<int>(weight.in),
                weight.activation_scale, x, stride, x_scales);
  const auto matrix = [&](uint8_t* data, int64_t n) {
    TensorView view(data, DType::kF8E4M3, {n, weight.in});
    view.strides[0] = stride;
    return view;
  };
  for (int64_t first = 0; first < weight.out; first += outputs) {
    const int64_t n = std::min(outputs, weight.out - first);
    stream.Launch({dim3(static_cast<unsigned>(p.product.k_tiles),
                        static_cast<unsigned>((n + kQuantTile - 1) / kQuantTile)),
                   dim3(kThreads)},
                  UnpackBytesKernel, p, static_cast<int>(first / kQuantTile),
                  PlainMatrix{codes, stride, static_cast<int>(n), weight_scales});
    const bool done = CublasLt::Get()->RunF8(stream, {.x = matrix(x, rows),
                                                      .x_scales = x_scales,
                                                      .weight = matrix(codes, n),
                                                      .weight_scales = weight_scales,
                                                      .bias = Columns(args.bias, first, n),
                                                      .out = Columns(args.out, first, n)});
    if (!done) return false;
  }
  return true;
}

}  // namespace

bool RoundsToF8(const PackedLinear& weight) {
  const QuantFormat& format = weight.format;
  return format.codes == CodeType::kF8E4M3 &&
         (format.block.in == 0 || format.block.in >= weight.in) &&
         (format.activation == ActivationCode::kRow ||
          format.activation == ActivationCode::kTensor);
}

void RunUnpackedQuant(CudaStream& stream, const QuantParams& p, const int32_t* permutation,
                      const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const int64_t rows = args.x.dim(0);
  const int64_t stride = RoundUp(weight.in, 16);
  const bool gathers = permutation != nullptr || !RowsArePacks(args.x);
  const int64_t x_bytes = gathers ? rows * stride * 2 : 0;
  const int64_t f8_bytes = rows * (stride + 4) + weight.out * 4 + 1024;
  auto* memory = static_cast<uint8_t*>(stream.Scratch(
      CublasLt::kWorkspaceBytes + static_cast<size_t>(x_bytes + f8_bytes + kStretchElements * 2)));
  if (memory == nullptr) return;
  memory += CublasLt::kWorkspaceBytes;  // what the library takes for itself
  LinearArgs aligned = args;
  if (gathers) {
    GatherColumns(stream, args.x, permutation, reinterpret_cast<bf16*>(memory), stride);
    aligned.x = TensorView(memory, DType::kBf16, {rows, weight.in});
    aligned.x.strides[0] = stride;
  }
  memory += x_bytes;
  if (RoundsToF8(weight) && RunF8(stream, p, aligned, memory)) return;
  RunBf16(stream, p, aligned, memory);
}

}  // namespace gale::cuda
