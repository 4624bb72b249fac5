// One NVIDIA GPU as a back end: device memory, CUDA streams, kernels. Layer L1b; registered as
// "cuda".
#include <fmt/format.h>

#include "backend/cuda/device.h"
#include "backend/cuda/ops.h"
#include "backend/registry.h"
#include "base/status_macros.h"

namespace gale {
namespace {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(std::string description) : description_(std::move(description)) {}

  DeviceInfo info() const override {
    DeviceInfo info{.name = "cuda",
                    .description = description_,
                    .total_bytes = 0,
                    .free_bytes = 0,
                    .is_host_memory = false,
                    .is_asynchronous = true};
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
    return cuda::FindLinear(key);
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
  void SiluMul(Stream& stream, const SiluMulArgs& args) override {
    cuda::SiluMul(cuda::AsCuda(stream), args);
  }
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override {
    cuda::GatherRows(cuda::AsCuda(stream), args);
  }
  void Sample(Stream& stream, const SampleArgs& args) override {
    cuda::Sample(cuda::AsCuda(stream), args);
  }
  void Logprobs(Stream& stream, const LogprobsArgs& args) override {
    cuda::Logprobs(cuda::AsCuda(stream), args);
  }

  void QkvRopeWrite(Stream& stream, const QkvRopeArgs& args, AttentionBackend& attention, int layer,
                    const TensorView& slot_mapping) override {
    const cuda::KvLayout& layout = static_cast<cuda::CudaAttention&>(attention).layout();
    if (layout.dtype == args.qkv.dtype) {
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

/// What keeps the device from being used, in the words of the driver.
Status Unusable(std::string_view reason) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return MakeError(
      ErrorCode::kUnsupported,
      fmt::format(
          "device cuda: {}; this build needs a driver for CUDA {}, {}", reason,
          Version(CUDART_VERSION),
          driver == 0 ? "none is loaded" : fmt::format("the one here is for {}", Version(driver))));
}

Result<std::unique_ptr<Backend>> CreateCudaBackend(const BackendOptions& options) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    cudaGetLastError();
    const Status status = Unusable(error != cudaSuccess ? cudaGetErrorString(error) : "no device");
    return tl::unexpected(status.error());
  }
  cudaDeviceProp properties{};
  GALE_RETURN_IF_ERROR(cuda::ToStatus(cudaGetDeviceProperties(&properties, 0), "device 0"));
  // Kernels are compiled ahead for certain processors; the emptiest one tells whether this is one.
  if (Status status = cuda::CheckKernelsRun(); !status) {
    return tl::unexpected(
        Unusable(fmt::format("{} (compute capability {}.{}) cannot run this build's kernels: {}",
                             properties.name, properties.major, properties.minor,
                             status.error().message))
            .error());
  }
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return std::make_unique<CudaBackend>(
      fmt::format("{}, compute capability {}.{}, {} SMs, driver for CUDA {}{}", properties.name,
                  properties.major, properties.minor, properties.multiProcessorCount,
                  Version(driver), options.note));
}

const bool kRegistered = RegisterBackend("cuda", CreateCudaBackend);

}  // namespace
}  // namespace gale
