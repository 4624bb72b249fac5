// y = x * weight^T + bias. bf16 by bf16 goes to the tensor cores (linear_mma.cuh, and where sums
// need not be batch invariant, cuBLASLt or, on Hopper, linear_wgmma.cuh); everything else, in which
// an f32 operand must keep its precision, to a tiled kernel of FMAs (linear_fma.cuh).
#include <algorithm>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/element.cuh"
#include "backend/cuda/linear_fma.cuh"
#include "backend/cuda/linear_mma.cuh"
#include "backend/cuda/ops.h"
#include "backend/cuda/ptx.cuh"
#include "backend/op_checks.h"
#include "base/status_macros.h"

namespace gale::cuda {
namespace {

constexpr int kThreads = 256;

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
  MmaLinearParams<> p{.columns = static_cast<int>(columns),
                      .rows = static_cast<int>(rows),
                      .bias = Floats(args.bias),
                      .out = args.out.data,
                      .out_stride = args.out.strides[0],
                      .out_is_f32 = args.out.dtype == DType::kF32};
  if (!SetOperands(stream, weight, args.x, &p)) return;
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

template <class X, class W>
void RunFma(CudaStream& stream, const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const FmaLinearParams<X, W> p{.x = args.x.As<X>(),
                                .x_stride = args.x.strides[0],
                                .rows = static_cast<int>(args.x.dim(0)),
                                .weight = weight.data.As<W>(),
                                .weight_stride = weight.data.strides[0],
                                .columns = static_cast<int>(weight.out),
                                .k = static_cast<int>(weight.in),
                                .bias = Floats(args.bias),
                                .out = args.out.data,
                                .out_stride = args.out.strides[0],
                                .out_is_f32 = args.out.dtype == DType::kF32};
  const auto tiles = [](int64_t n) { return static_cast<unsigned>((n + kFmaTile - 1) / kFmaTile); };
  stream.Launch({dim3(tiles(weight.out), tiles(args.x.dim(0))), dim3(kFmaThreads)},
                LinearFmaKernel<X, W>, p);
}

/// Whether it is, as large as whole allocations are aligned.
bool IsDeviceMemory(const void* data) {
  constexpr uintptr_t kAlignment = 256;
  cudaPointerAttributes attributes{};
  return reinterpret_cast<uintptr_t>(data) % kAlignment == 0 &&
         cudaPointerGetAttributes(&attributes, data) == cudaSuccess &&
         attributes.type == cudaMemoryTypeDevice;
}

/// Plain weights: bf16 as rows of whole units, f32 as they are, f16 (exactly) as f32. Those that
/// lie so in the device's memory are used where they are.
class PlainLinear final : public LinearKernel {
 public:
  explicit PlainLinear(Numerics numerics) : numerics_(numerics) {}

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    CheckShape(weight.data, {weight.out, weight.in});
    if (numerics_ == Numerics::kFast) CublasLt::Preload();
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    const DType dtype = weight.data.dtype == DType::kBf16 ? DType::kBf16 : DType::kF32;
    const int64_t stride = (weight.in + kUnit - 1) / kUnit * kUnit;
    if (weight.data.dtype == dtype && weight.data.strides[0] == stride &&
        IsDeviceMemory(weight.data.data)) {
      packed.data = weight.data;
      return packed;
    }
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
    CheckLinearArgs(args);
    if (args.x.dim(0) == 0) return;
    const PackedLinear& weight = *args.weight;
    const bool x_is_f32 = args.x.dtype == DType::kF32;
    if (weight.data.dtype == DType::kBf16) {
      if (x_is_f32) {
        RunFma<float, bf16>(AsCuda(stream), args);
      } else if (numerics_ == Numerics::kBatchInvariant) {
        RunMma(AsCuda(stream), args);
      } else if (!SuitsCublasLt(args) || !RunCublasLt(AsCuda(stream), args)) {
        SuitsWgmma(args) ? RunWgmma(AsCuda(stream), args) : RunMma(AsCuda(stream), args);
      }
    } else {
      x_is_f32 ? RunFma<float, float>(AsCuda(stream), args)
               : RunFma<bf16, float>(AsCuda(stream), args);
    }
  }

  void RunGrouped(Stream& stream, const GroupedLinearArgs& args) const override {
    cuda::RunGrouped(AsCuda(stream), args);
  }
  void RunBatched(Stream& stream, const BatchedLinearArgs& args) const override {
    cuda::RunBatched(AsCuda(stream), args);
  }

 private:
  Numerics numerics_;
};

const PlainLinear kInvariant(Numerics::kBatchInvariant);
const PlainLinear kFast(Numerics::kFast);

}  // namespace

const LinearKernel* FindLinear(const LinearKey& key) {
  const auto is_float = [](DType dtype) {
    return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16;
  };
  const bool weight = key.format.code == BlockCode::kNone && is_float(key.format.data);
  const bool activation = key.activation == DType::kF32 || key.activation == DType::kBf16;
  if (!weight || !activation) return nullptr;
  return key.numerics == Numerics::kFast ? &kFast : &kInvariant;
}

bool RunGatedLinear(CudaStream& stream, const LinearKernel& kernel, const LinearArgs& linear,
                    const GatedActivationArgs& gated) {
  CheckLinearArgs(linear);
  const auto is_bf16 = [](const TensorView& view) { return view.dtype == DType::kBf16; };
  const bool takes = &kernel == &kFast && gated.activation == Activation::kSilu &&
                     is_bf16(linear.x) && is_bf16(linear.weight->data) && is_bf16(gated.out);
  return takes && linear.x.dim(0) > 0 && RunGatedWgmma(stream, linear, gated.out);
}

}  // namespace gale::cuda
