// One NVIDIA GPU as a back end: device memory, CUDA streams, kernels. Layer L1b; registered as
// "cuda".
#include <fmt/format.h>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/device.h"
#include "backend/cuda/ops.h"
#include "backend/registry.h"
#include "base/status_macros.h"

namespace gale {
namespace {

/// Partial results of attention (32 MiB) and of sampling, unpacked weights and rounded rows (128
/// MiB), and some seventy graphs of a MiB each.
constexpr size_t kWorkspaceBytes = size_t{272} << 20;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(std::string description) : description_(std::move(description)) {}
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;
  ~CudaBackend() override { cuda::CublasLt::FinishPreload(); }

  DeviceInfo info() const override {
    DeviceInfo info{.name = "cuda",
                    .description = description_,
                    .total_bytes = 0,
                    .free_bytes = 0,
                    .is_host_memory = false,
                    .is_asynchronous = true,
                    .workspace_bytes = kWorkspaceBytes};
    cudaMemGetInfo(&info.free_bytes, &info.total_bytes);
    return info;
  }

  Result<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    return cuda::Allocate(bytes, kind);
  }

  std::unique_ptr<Stream> CreateStream() override { return std::make_unique<cuda::CudaStream>(); }
  std::unique_ptr<Event> CreateEvent() override { return std::make_unique<cuda::CudaEvent>(); }

  Result<std::unique_ptr<Graph>> Capture(Stream& stream,
                                         const std::function<void()>& enqueue) override {
    return cuda::Capture(cuda::AsCuda(stream), enqueue);
  }

  void Copy(Stream& stream, void* dst, const void* src, size_t bytes) override {
    if (bytes == 0) return;
    cuda::CudaStream& cuda_stream = cuda::AsCuda(stream);
    cuda_stream.Record(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, cuda_stream.get()));
  }

  const LinearKernel* FindLinear(const LinearKey& key) const override {
    switch (key.format.code) {
      case BlockCode::kNone: return cuda::FindLinear(key);
      case BlockCode::kGgmlBlock: {
        const LinearKernel* packed = cuda::FindQuantLinear(key);
        return packed != nullptr ? packed : cuda::FindGgmlLinear(key);
      }
      case BlockCode::kScaled: return cuda::FindQuantLinear(key);
    }
    return nullptr;
  }
  std::unique_ptr<AttentionBackend> CreateAttention(const AttentionSpec& spec) override {
    return cuda::CreateAttention(spec);
  }

  Result<std::unique_ptr<FusedDecoder>> CreateFusedDecoder(
      const DecoderDescription& decoder) override {
    return cuda::CreateFusedDecoder(decoder);
  }

  void Embedding(Stream& stream, const EmbeddingArgs& args) override {
    cuda::Embedding(cuda::AsCuda(stream), args);
  }
  void RmsNorm(Stream& stream, const RmsNormArgs& args) override {
    cuda::RmsNorm(cuda::AsCuda(stream), args);
  }
  void QkvRope(Stream& stream, const QkvRopeArgs& args) override {
    cuda::QkvRope(cuda::AsCuda(stream), args);
  }
  void GatedActivation(Stream& stream, const GatedActivationArgs& args) override {
    cuda::GatedActivation(cuda::AsCuda(stream), args);
  }
  void AddSilu(Stream& stream, const AddSiluArgs& args) override {
    cuda::AddSilu(cuda::AsCuda(stream), args);
  }
  void Softcap(Stream& stream, const SoftcapArgs& args) override {
    cuda::Softcap(cuda::AsCuda(stream), args);
  }
  void Rotate(Stream& stream, const RotateArgs& args) override {
    cuda::Rotate(cuda::AsCuda(stream), args);
  }
  void MoeRoute(Stream& stream, const MoeRouteArgs& args) override {
    cuda::MoeRoute(cuda::AsCuda(stream), args);
  }
  void MoeCombine(Stream& stream, const MoeCombineArgs& args) override {
    cuda::MoeCombine(cuda::AsCuda(stream), args);
  }
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override {
    cuda::GatherRows(cuda::AsCuda(stream), args);
  }
  void EditLogits(Stream& stream, const EditLogitsArgs& args) override {
    cuda::EditLogits(cuda::AsCuda(stream), args);
  }
  void Sample(Stream& stream, const SampleArgs& args) override {
    cuda::Sample(cuda::AsCuda(stream), args);
  }
  void Logprobs(Stream& stream, const LogprobsArgs& args) override {
    cuda::Logprobs(cuda::AsCuda(stream), args);
  }
  void FillRandom(Stream& stream, const FillRandomArgs& args) override {
    cuda::FillRandom(cuda::AsCuda(stream), args);
  }
  void ProbeRead(Stream& stream, const TensorView& memory) override {
    cuda::ProbeRead(cuda::AsCuda(stream), memory);
  }
  double ProbeProducts(Stream& stream) override {
    return cuda::ProbeProducts(cuda::AsCuda(stream));
  }
  double ProbeLibraryProduct(Stream& stream, const TensorView& memory) override {
    return cuda::ProbeLibraryProduct(cuda::AsCuda(stream), memory);
  }

  void GatedLinear(Stream& stream, const LinearKernel& kernel, const LinearArgs& linear,
                   const GatedActivationArgs& gated) override {
    if (!cuda::RunGatedLinear(cuda::AsCuda(stream), kernel, linear, gated)) {
      Backend::GatedLinear(stream, kernel, linear, gated);
    }
  }
  void QkvRopeWrite(Stream& stream, const QkvRopeArgs& args, AttentionBackend& attention, int layer,
                    const TensorView& slot_mapping) override {
    const cuda::KvLayout& layout = static_cast<cuda::CudaAttention&>(attention).layout();
    if (IsQuantized(layout.format) || layout.format == PlainKv(args.qkv.dtype)) {
      cuda::QkvRopeWrite(cuda::AsCuda(stream), args, layout, layer, slot_mapping);
    } else {
      Backend::QkvRopeWrite(stream, args, attention, layer, slot_mapping);
    }
  }

 private:
  std::string description_;
};

std::string Version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Error Unusable(std::string reason) {
  return {ErrorCode::kUnsupported, fmt::format("device cuda: {}", reason)};
}

/// Why there is no device, in terms of what to do about it.
Error WhyNoDevice(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const std::string needed = Version(CUDART_VERSION);
  if (driver == 0) {
    return Unusable(fmt::format("no NVIDIA driver; install one for CUDA {} or newer", needed));
  }
  if (driver < CUDART_VERSION) {
    return Unusable(
        fmt::format("the NVIDIA driver is for CUDA {}, this build needs {} or newer; "
                    "update the driver",
                    Version(driver), needed));
  }
  return Unusable(fmt::format(
      "the NVIDIA driver (for CUDA {}) shows no GPU to this process: {}; see nvidia-smi "
      "and CUDA_VISIBLE_DEVICES",
      Version(driver), cudaGetErrorString(error)));
}

Result<std::unique_ptr<Backend>> CreateCudaBackend(const BackendOptions& options) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return tl::unexpected(WhyNoDevice(error != cudaSuccess ? error : cudaErrorNoDevice));
  }
  cudaDeviceProp properties{};
  GALE_RETURN_IF_ERROR(cuda::ToStatus(cudaGetDeviceProperties(&properties, 0), "device 0"));
  // Kernels are compiled ahead for certain processors; the emptiest one tells whether this is one.
  if (const Status status = cuda::CheckKernelsRun(); !status) {
    return tl::unexpected(Unusable(
        fmt::format("this build has no code for {} (compute capability {}.{}): {}; build with "
                    "-DGALE_CUDA_ALL_ARCHS=ON, which covers 8.0, 8.6, 8.9 and 9.0",
                    properties.name, properties.major, properties.minor, status.error().message)));
  }
  int driver = 0;
  cudaDriverGetVersion(&driver);
  const bool has_library = !cuda::CublasLt::FindFile().empty();
  return std::make_unique<CudaBackend>(fmt::format(
      "{}, compute capability {}.{}, {} SMs, driver for CUDA {}, runtime {}, {}{}", properties.name,
      properties.major, properties.minor, properties.multiProcessorCount, Version(driver),
      Version(CUDART_VERSION), has_library ? "cuBLASLt" : "no cuBLASLt", options.note));
}

const bool kRegistered = RegisterBackend("cuda", CreateCudaBackend);

}  // namespace
}  // namespace gale
