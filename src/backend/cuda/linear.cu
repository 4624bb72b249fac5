// y = x * weight^T + bias. bf16 by bf16 goes to the tensor cores (linear_mma.cuh); everything else,
// in which an f32 operand must keep its precision, to a tiled kernel of f32 FMAs.
#include <algorithm>

#include "backend/cuda/element.cuh"
#include "backend/cuda/linear_mma.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

/// Copies rows of x so that they can be read 16 bytes at a time: `width` elements apart, the end
/// filled with zeros. Blocks: a row each.
__global__ void AlignRowsKernel(const bf16* x, int64_t x_stride, int k, bf16* out, int width) {
  LaunchDependents();
  WaitForPrerequisites();
  const bf16* row = x + blockIdx.x * x_stride;
  bf16* out_row = out + static_cast<int64_t>(blockIdx.x) * width;
  for (int i = threadIdx.x; i < width; i += kThreads) {
    out_row[i] = i < k ? row[i] : __float2bfloat16(0.0F);
  }
}

__global__ void ConvertKernel(AnyFloats source, float* out, int64_t n) {
  LaunchDependents();
  WaitForPrerequisites();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) out[i] = source[i];
}

void RunMma(CudaStream& stream, const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const int64_t rows = args.x.dim(0);
  const int64_t columns = weight.out;
  constexpr int kAligned = 8;
  MmaLinearParams p{.weight = weight.data.As<bf16>(),
                    .columns = static_cast<int>(columns),
                    .units = static_cast<int>(weight.data.strides[0] / kUnit),
                    .x = args.x.As<bf16>(),
                    .x_stride = args.x.strides[0],
                    .rows = static_cast<int>(rows),
                    .k = static_cast<int>((weight.in + kAligned - 1) / kAligned * kAligned),
                    .bias = Floats(args.bias),
                    .out = args.out.data,
                    .out_stride = args.out.strides[0],
                    .out_is_f32 = args.out.dtype == DType::kF32};
  if (!RowsArePacks(args.x)) {
    auto* aligned = static_cast<bf16*>(
        stream.Scratch(static_cast<size_t>(rows) * static_cast<size_t>(p.k) * sizeof(bf16)));
    if (aligned == nullptr) return;
    stream.Launch({dim3(static_cast<unsigned>(rows)), dim3(kThreads)}, AlignRowsKernel, p.x,
                  p.x_stride, static_cast<int>(weight.in), aligned, p.k);
    p.x = aligned;
    p.x_stride = p.k;
  }
  const auto run_stream = [&]<int kOutTiles, int kRowTiles, int kDepth>() {
    constexpr int kOutputs = 16 * kOutTiles;
    stream.Launch({dim3(static_cast<unsigned>((columns + kOutputs - 1) / kOutputs)),
                   dim3(kStreamThreads), StreamSharedBytes(kOutTiles, kRowTiles)},
                  LinearStreamKernel<kOutTiles, kRowTiles, kDepth>, p);
  };
  if (rows <= 8) {
    run_stream.template operator()<1, 1, 4>();
  } else if (rows <= 16) {
    run_stream.template operator()<1, 2, 4>();
  } else if (rows <= 32) {
    run_stream.template operator()<2, 4, 2>();
  } else if (rows <= 64) {
    run_stream.template operator()<2, 8, 2>();
  } else {
    const auto tiles = [](int64_t n) { return static_cast<unsigned>((n + kTile - 1) / kTile); };
    stream.Launch({dim3(tiles(columns), tiles(rows)), dim3(kTileThreads), kTileSharedBytes},
                  LinearTileKernel, p);
  }
}

/// A tensor core takes bf16 or rounds to it; this kernel rounds nothing but the sums. Blocks:
/// (64 outputs, 64 rows), 4 x 4 of them a thread; products are summed in ascending order of k.
constexpr int kFmaTile = 64;
constexpr int kFmaDepth = 16;

template <class X, class W>
__global__ void __launch_bounds__(kThreads)
    LinearFmaKernel(const X* x, int64_t x_stride, int rows, const W* weight, int64_t weight_stride,
                    int columns, int k, AnyFloats bias, void* out, int64_t out_stride,
                    bool out_is_f32) {
  __shared__ float x_tile[kFmaDepth][kFmaTile + 4];
  __shared__ float weight_tile[kFmaDepth][kFmaTile + 4];
  LaunchDependents();
  WaitForPrerequisites();
  const int first_column = static_cast<int>(blockIdx.x) * kFmaTile;
  const int first_row = static_cast<int>(blockIdx.y) * kFmaTile;
  const int thread_column = threadIdx.x % 16 * 4;
  const int thread_row = threadIdx.x / 16 * 4;
  float acc[4][4] = {};
  for (int begin = 0; begin < k; begin += kFmaDepth) {
    for (int i = threadIdx.x; i < kFmaTile * kFmaDepth; i += kThreads) {
      const int r = i / kFmaDepth;
      const int c = begin + i % kFmaDepth;
      const bool in_x = first_row + r < rows && c < k;
      const bool in_weight = first_column + r < columns && c < k;
      x_tile[i % kFmaDepth][r] = in_x ? ToF32(x[(first_row + r) * x_stride + c]) : 0.0F;
      weight_tile[i % kFmaDepth][r] =
          in_weight ? ToF32(weight[(first_column + r) * weight_stride + c]) : 0.0F;
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
      if (row >= rows || column >= columns) continue;
      const float sum = acc[r][o] + (bias.data == nullptr ? 0.0F : bias[column]);
      const int64_t at = row * out_stride + column;
      if (out_is_f32) {
        static_cast<float*>(out)[at] = sum;
      } else {
        static_cast<bf16*>(out)[at] = __float2bfloat16(sum);
      }
    }
  }
}

template <class X, class W>
void RunFma(CudaStream& stream, const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const auto tiles = [](int64_t n) { return static_cast<unsigned>((n + kFmaTile - 1) / kFmaTile); };
  stream.Launch({dim3(tiles(weight.out), tiles(args.x.dim(0))), dim3(kThreads)},
                LinearFmaKernel<X, W>, args.x.As<X>(), args.x.strides[0],
                static_cast<int>(args.x.dim(0)), weight.data.As<W>(), weight.data.strides[0],
                static_cast<int>(weight.out), static_cast<int>(weight.in), Floats(args.bias),
                args.out.data, args.out.strides[0], args.out.dtype == DType::kF32);
}

/// Plain weights: bf16 as rows of whole units, f32 as they are, f16 (exactly) as f32.
class PlainLinear final : public LinearKernel {
 public:
  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    CheckShape(weight.data, {weight.out, weight.in});
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    const DType dtype = weight.data.dtype == DType::kBf16 ? DType::kBf16 : DType::kF32;
    const int64_t stride = (weight.in + kUnit - 1) / kUnit * kUnit;
    const size_t pitch = static_cast<size_t>(stride) * DTypeBytes(dtype);
    GALE_ASSIGN_OR_RETURN(packed.storage,
                          Allocate(pitch * static_cast<size_t>(weight.out), MemoryKind::kDevice));
    packed.data = TensorView(packed.storage.data(), dtype, {weight.out, weight.in});
    packed.data.strides[0] = stride;

    CudaStream stream;
    if (stride != weight.in) {
      stream.Record(
          cudaMemsetAsync(packed.storage.data(), 0, packed.storage.bytes(), stream.get()));
    }
    const auto upload = [&](void* dst, size_t dst_pitch) {
      const size_t element = DTypeBytes(weight.data.dtype);
      const size_t width = static_cast<size_t>(weight.in) * element;
      const size_t src_pitch = static_cast<size_t>(weight.data.strides[0]) * element;
      const auto rows = static_cast<size_t>(weight.out);
      if (width == src_pitch && width == dst_pitch) {  // one stretch goes at full speed
        stream.Record(
            cudaMemcpyAsync(dst, weight.data.data, width * rows, cudaMemcpyDefault, stream.get()));
      } else {
        stream.Record(cudaMemcpy2DAsync(dst, dst_pitch, weight.data.data, src_pitch, width, rows,
                                        cudaMemcpyDefault, stream.get()));
      }
    };
    Buffer halves;
    if (weight.data.dtype != DType::kF16) {
      upload(packed.storage.data(), pitch);
    } else {
      GALE_ASSIGN_OR_RETURN(
          halves, Allocate(pitch / 2 * static_cast<size_t>(weight.out), MemoryKind::kDevice));
      stream.Record(cudaMemsetAsync(halves.data(), 0, halves.bytes(), stream.get()));
      upload(halves.data(), pitch / 2);
      const int64_t n = stride * weight.out;
      stream.Launch({dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)), dim3(kThreads)},
                    ConvertKernel, AnyFloats{halves.data(), DType::kF16}, packed.data.As<float>(),
                    n);
    }
    GALE_RETURN_IF_ERROR(stream.Synchronize());  // the host's copy goes away
    return packed;
  }

  void Run(Stream& stream, const LinearArgs& args) const override {
    const PackedLinear& weight = *args.weight;
    const int64_t rows = args.x.dim(0);
    CheckActivation(args.x);
    CheckActivation(args.out);
    CheckShape(args.x, {rows, weight.in});
    CheckShape(args.out, {rows, weight.out});
    if (args.bias) CheckShape(args.bias, {weight.out});
    if (rows == 0) return;
    const bool x_is_f32 = args.x.dtype == DType::kF32;
    if (weight.data.dtype == DType::kBf16) {
      x_is_f32 ? RunFma<float, bf16>(AsCuda(stream), args) : RunMma(AsCuda(stream), args);
    } else {
      x_is_f32 ? RunFma<float, float>(AsCuda(stream), args)
               : RunFma<bf16, float>(AsCuda(stream), args);
    }
  }
};

}  // namespace

const LinearKernel* FindLinear(const LinearKey& key) {
  static const PlainLinear kernel;
  const auto is_float = [](DType dtype) {
    return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16;
  };
  const bool weight = key.format.code == BlockCode::kNone && is_float(key.format.data);
  const bool activation = key.activation == DType::kF32 || key.activation == DType::kBf16;
  return weight && activation ? &kernel : nullptr;
}

}  // namespace gale::cuda
