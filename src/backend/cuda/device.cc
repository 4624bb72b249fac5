#include "backend/cuda/device.h"

#include <algorithm>

#include <fmt/format.h>

namespace gale::cuda {

Status ToStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // clears what is not sticky
  const bool memory = error == cudaErrorMemoryAllocation;
  return MakeError(
      memory ? ErrorCode::kResourceExhausted : ErrorCode::kDevice,
      fmt::format("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error)));
}

Result<Buffer> Allocate(size_t bytes, MemoryKind kind) {
  void* data = nullptr;
  const bool pinned = kind == MemoryKind::kPinnedHost;
  const size_t at_least_one = std::max<size_t>(bytes, 1);  // so that no buffer is null
  const cudaError_t error =
      pinned ? cudaMallocHost(&data, at_least_one) : cudaMalloc(&data, at_least_one);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return MakeError(
        ErrorCode::kResourceExhausted,
        pinned ? fmt::format("cuda: {} bytes of pinned host memory wanted, not available", bytes)
               : fmt::format("cuda: {} bytes of device memory wanted, {} of {} free; free some or "
                             "lower the memory settings",
                             bytes, free_bytes, total_bytes));
  }
  if (Status status = ToStatus(error, "allocate"); !status) return tl::unexpected(status.error());
  return pinned ? Buffer(data, bytes, [](void* p, size_t) { cudaFreeHost(p); })
                : Buffer(data, bytes, [](void* p, size_t) { cudaFree(p); });
}

const DeviceLimits& Limits() {
  static const DeviceLimits limits = [] {
    DeviceLimits read;
    const auto get = [](int* value, cudaDeviceAttr attribute) {
      if (cudaDeviceGetAttribute(value, attribute, 0) != cudaSuccess) *value = 0;
    };
    get(&read.num_sms, cudaDevAttrMultiProcessorCount);
    get(&read.major, cudaDevAttrComputeCapabilityMajor);
    get(&read.minor, cudaDevAttrComputeCapabilityMinor);
    get(&read.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    return read;
  }();
  return limits;
}

// Non-blocking: no hidden waits for the default stream.
CudaStream::CudaStream() { Record(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

CudaStream::~CudaStream() {
  if (stream_ == nullptr) return;
  cudaStreamSynchronize(stream_);  // the scratch goes away
  cudaStreamDestroy(stream_);
}

Status CudaStream::Synchronize() {
  Record(cudaStreamSynchronize(stream_));
  const cudaError_t error = error_;
  error_ = cudaSuccess;
  return ToStatus(error, "stream");
}

void* CudaStream::Scratch(size_t bytes) {
  if (bytes <= scratch_.bytes()) return scratch_.data();
  Record(cudaStreamSynchronize(stream_));  // kernels in flight use the old one
  scratch_ = {};
  auto grown = Allocate(bytes, MemoryKind::kDevice);
  if (!grown) {
    Record(cudaErrorMemoryAllocation);
    return nullptr;
  }
  scratch_ = *std::move(grown);
  return scratch_.data();
}

}  // namespace gale::cuda
