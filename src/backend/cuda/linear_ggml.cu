// Linear layers on ggml's blocks. Prepare takes scales and codes apart, so that both are read in
// whole aligned words; a warp then multiplies two weight rows with up to eight rows of x, and
// unpacks in registers. One order of sums for any number of rows.
#include <algorithm>

#include "backend/cuda/element.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"
#include "base/status_macros.h"
#include "tensor/ggml_block.h"

namespace gale::cuda {
namespace {

constexpr int kBlock = static_cast<int>(kGgmlBlockElements);
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kColumns = 2;  // of a warp
constexpr int kMaxRows = 8;  // of a warp

/// Bytes of a block's codes.
constexpr int CodeBytes(GgmlType type) {
  return static_cast<int>(GgmlBlockBytes(type) - kGgmlScaleBytes);
}

/// Codes of all blocks, then their scales in f16: as many bytes as the blocks have.
struct SplitBlocks {
  const uint8_t* codes;  // [columns, k / 32, CodeBytes], 16-byte aligned
  const __half* scales;  // [columns, k / 32]
};

SplitBlocks Split(const PackedLinear& weight) {
  const auto* codes = static_cast<const uint8_t*>(weight.data.data);
  const int64_t blocks = weight.in / kBlock * weight.out;
  return {codes, reinterpret_cast<const __half*>(codes + blocks * CodeBytes(weight.format.ggml))};
}

/// One thread for each two bytes of the blocks, which start at even addresses.
__global__ void SplitKernel(const uint16_t* blocks, int64_t num_blocks, int code_halves,
                            uint16_t* codes, uint16_t* scales) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t block = i / (code_halves + 1);
  const auto at = static_cast<int>(i % (code_halves + 1));
  if (block >= num_blocks) return;
  if (at == 0) {
    scales[block] = blocks[i];
  } else {
    codes[block * code_halves + at - 1] = blocks[i];
  }
}

/// Four neighbouring elements.
template <class X>
__device__ __forceinline__ void LoadFour(const X* p, bool aligned, float (&x)[4]) {
  if (!aligned) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = ToF32(p[i]);
  } else if constexpr (std::is_same_v<X, float>) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
  } else {
    const uint2 four = *reinterpret_cast<const uint2*>(p);
    x[0] = __uint_as_float(four.x << 16), x[1] = __uint_as_float(four.x & 0xFFFF0000U);
    x[2] = __uint_as_float(four.y << 16), x[3] = __uint_as_float(four.y & 0xFFFF0000U);
  }
}

template <class X>
struct GgmlLinearParams {
  const X* x;  // [rows, k]
  int64_t x_stride;
  bool x_is_aligned;  // for LoadFour
  int rows;
  SplitBlocks weight;
  int columns;
  int k;
  AnyFloats bias;  // [columns], data null: none
  void* out;       // [rows, columns], bf16 or f32
  int64_t out_stride;
  bool out_is_f32;
};

/// A lane's share of a block: 4 bytes of codes, which are 4 elements (Q8_0) or twice 4 that lie 16
/// apart (Q4_0).
template <GgmlType kType>
struct Share {
  static constexpr int kLanes = CodeBytes(kType) / 4;  // of a block
  static constexpr int kBlocks = kWarp / kLanes;       // of a warp at once
  static constexpr int kFours = kType == GgmlType::kQ8_0 ? 1 : 2;

  static __device__ __forceinline__ float Code(uint32_t word, int four, int i) {
    const uint32_t byte = word >> (8 * i);
    if constexpr (kType == GgmlType::kQ8_0) {
      return static_cast<float>(static_cast<int8_t>(byte & 0xFF));
    } else {
      return static_cast<float>(static_cast<int>(byte >> (4 * four) & 15) - 8);
    }
  }
};

/// Blocks: (8 columns, kRows rows). Reads each weight byte once for each kRows rows.
template <GgmlType kType, class X, int kRows>
__global__ void __launch_bounds__(kThreads) GgmlLinearKernel(GgmlLinearParams<X> p) {
  using Lane = Share<kType>;
  LaunchDependents();
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_column = (static_cast<int>(blockIdx.x) * kWarps + warp) * kColumns;
  const int first_row = static_cast<int>(blockIdx.y) * kRows;
  const int part = lane % Lane::kLanes;
  const int num_blocks = p.k / kBlock;
  WaitForPrerequisites();
  float acc[kRows][kColumns] = {};
#pragma unroll 4
  for (int block = lane / Lane::kLanes; block < num_blocks; block += Lane::kBlocks) {
    float scale[kColumns];
    uint32_t codes[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = min(first_column + c, p.columns - 1);
      const int64_t at = static_cast<int64_t>(column) * num_blocks + block;
      scale[c] = __half2float(p.weight.scales[at]);
      codes[c] = reinterpret_cast<const uint32_t*>(p.weight.codes)[at * Lane::kLanes + part];
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = min(first_row + r, p.rows - 1);
      const X* x = p.x + row * p.x_stride + block * kBlock + part * 4;
      float sum[kColumns] = {};
#pragma unroll
      for (int four = 0; four < Lane::kFours; ++four) {
        float values[4];
        LoadFour(x + four * (kBlock / 2), p.x_is_aligned, values);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            sum[c] = fmaf(values[i], Lane::Code(codes[c], four, i), sum[c]);
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) acc[r][c] = fmaf(scale[c], sum[c], acc[r][c]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float total = WarpAdd(acc[r][c]);
      const int row = first_row + r;
      const int column = first_column + c;
      if (lane != 0 || row >= p.rows || column >= p.columns) continue;
      const float sum = total + (p.bias.data == nullptr ? 0.0F : p.bias[column]);
      const int64_t at = row * p.out_stride + column;
      if (p.out_is_f32) {
        static_cast<float*>(p.out)[at] = sum;
      } else {
        static_cast<bf16*>(p.out)[at] = __float2bfloat16(sum);
      }
    }
  }
}

template <GgmlType kType, class X, int kRows>
void Launch(CudaStream& stream, const GgmlLinearParams<X>& p) {
  const auto tiles = [](int n, int tile) { return static_cast<unsigned>((n + tile - 1) / tile); };
  stream.Launch({dim3(tiles(p.columns, kWarps * kColumns), tiles(p.rows, kRows)), dim3(kThreads)},
                GgmlLinearKernel<kType, X, kRows>, p);
}

template <GgmlType kType, class X>
void RunBlocks(CudaStream& stream, const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const auto address = reinterpret_cast<uintptr_t>(args.x.data);
  const GgmlLinearParams<X> p{
      .x = args.x.As<X>(),
      .x_stride = args.x.strides[0],
      .x_is_aligned = address % (4 * sizeof(X)) == 0 && args.x.strides[0] % 4 == 0,
      .rows = static_cast<int>(args.x.dim(0)),
      .weight = Split(weight),
      .columns = static_cast<int>(weight.out),
      .k = static_cast<int>(weight.in),
      .bias = Floats(args.bias),
      .out = args.out.data,
      .out_stride = args.out.strides[0],
      .out_is_f32 = args.out.dtype == DType::kF32};
  if (p.rows == 1) {
    Launch<kType, X, 1>(stream, p);
  } else if (p.rows <= 4) {
    Launch<kType, X, 4>(stream, p);
  } else {
    Launch<kType, X, kMaxRows>(stream, p);
  }
}

class GgmlLinear final : public LinearKernel {
 public:
  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    const GgmlType type = weight.format.ggml;
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    const int64_t num_blocks = weight.in / kBlock * weight.out;
    const auto bytes = static_cast<size_t>(num_blocks * GgmlBlockBytes(type));
    GALE_CHECK_EQ(weight.data.strides[0], GgmlRowBytes(type, weight.in));
    GALE_ASSIGN_OR_RETURN(packed.storage, Allocate(bytes, MemoryKind::kDevice));
    GALE_ASSIGN_OR_RETURN(const Buffer blocks, Allocate(bytes, MemoryKind::kDevice));
    packed.data = TensorView(packed.storage.data(), DType::kU8, {weight.out, weight.in});

    CudaStream stream;
    stream.Record(
        cudaMemcpyAsync(blocks.data(), weight.data.data, bytes, cudaMemcpyDefault, stream.get()));
    const SplitBlocks split = Split(packed);
    const auto halves = static_cast<int64_t>(bytes / 2);
    if (halves > 0) {
      stream.Launch(
          {dim3(static_cast<unsigned>((halves + kThreads - 1) / kThreads)), dim3(kThreads)},
          SplitKernel, static_cast<const uint16_t*>(blocks.data()), num_blocks, CodeBytes(type) / 2,
          static_cast<uint16_t*>(packed.storage.data()),
          reinterpret_cast<uint16_t*>(const_cast<__half*>(split.scales)));
    }
    GALE_RETURN_IF_ERROR(stream.Synchronize());  // the host's copy and the blocks go away
    return packed;
  }

  void Run(Stream& stream, const LinearArgs& args) const override {
    CheckLinearArgs(args);
    if (args.x.dim(0) == 0) return;
    const PackedLinear& weight = *args.weight;
    const bool x_is_f32 = args.x.dtype == DType::kF32;
    if (weight.format.ggml == GgmlType::kQ8_0) {
      x_is_f32 ? RunBlocks<GgmlType::kQ8_0, float>(AsCuda(stream), args)
               : RunBlocks<GgmlType::kQ8_0, bf16>(AsCuda(stream), args);
    } else {
      x_is_f32 ? RunBlocks<GgmlType::kQ4_0, float>(AsCuda(stream), args)
               : RunBlocks<GgmlType::kQ4_0, bf16>(AsCuda(stream), args);
    }
  }
};

}  // namespace

const LinearKernel* FindGgmlLinear(const LinearKey& key) {
  static const GgmlLinear kernel;
  const bool activation = key.activation == DType::kF32 || key.activation == DType::kBf16;
  const GgmlType type = key.format.ggml;
  const bool weight = (type == GgmlType::kQ4_0 || type == GgmlType::kQ8_0) && key.in % kBlock == 0;
  return weight && activation && !key.grouped ? &kernel : nullptr;
}

}  // namespace gale::cuda
