// The CUDA runtime behind Gale's types: errors as Status, memory, streams, kernel launches.
// Layer L1b, host side; the whole back end uses one device, number 0.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "backend/backend.h"
#include "base/check.h"

namespace gale::cuda {

/// `error` as a Status: kResourceExhausted for lack of memory, kDevice for all else.
Status ToStatus(cudaError_t error, std::string_view what);

Result<Buffer> Allocate(size_t bytes, MemoryKind kind);

/// What launches depend on; read once.
struct DeviceLimits {
  int num_sms = 0;
  int major = 0;  ///< compute capability
  int minor = 0;
  int max_shared_bytes = 0;  ///< of one block, after opting in
};
const DeviceLimits& Limits();

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  ///< blocks in a row that see one another's shared memory; divides the grid
};

class CudaEvent final : public Event {
 public:
  CudaEvent();
  ~CudaEvent() override;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  Result<bool> HasPassed() override;
  double SecondsSince(const Event& earlier) const override;

 private:
  friend class CudaStream;
  cudaEvent_t event_ = nullptr;
  cudaError_t error_ = cudaSuccess;  ///< the first one of what it stands for
};

/// Errors of launches are kept until Synchronize or an event reports them; the device's own are
/// sticky in CUDA.
class CudaStream final : public Stream {
 public:
  CudaStream();
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  Status Synchronize() override;
  void Record(Event& event) override;
  void Wait(Event& event) override;
  /// The first error of launches since it was asked last.
  cudaError_t TakeError() { return std::exchange(error_, cudaSuccess); }
  cudaStream_t get() const { return stream_; }
  void Record(cudaError_t error) {
    if (error_ == cudaSuccess) error_ = error;
  }

  /// Memory for one op's intermediate results, 256-byte aligned; the next op on the stream reuses
  /// it. Null (and an error at Synchronize) when there is not enough. It grows to the largest op's
  /// need; what it was before stays, since kernels in flight and captured graphs point to it.
  void* Scratch(size_t bytes);

  /// Every kernel begins with WaitForPrerequisites (ptx.cuh): it may start before the one before it
  /// on the stream has ended. An empty grid is no launch.
  template <class... Params, class... Args>
  void Launch(const LaunchShape& shape, void (*kernel)(Params...), const Args&... args) {
    if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
    OptIn(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim = {shape.cluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream_;
    config.attrs = attributes;
    config.numAttrs = Limits().major < 9 ? 0 : shape.cluster == 1 ? 1 : 2;
    Record(cudaLaunchKernelEx(&config, kernel, Params(args)...));
  }

 private:
  /// Lets the kernel have so much shared memory; costs little when it has.
  void OptIn(const void* kernel, size_t shared_bytes);

  cudaStream_t stream_ = nullptr;
  cudaError_t error_ = cudaSuccess;
  std::unordered_map<const void*, size_t> opted_in_;  ///< [kernel]: shared bytes
  std::vector<Buffer> scratch_;                       ///< the last one is in use
};

Result<std::unique_ptr<Graph>> Capture(CudaStream& stream, const std::function<void()>& enqueue);

inline CudaStream& AsCuda(Stream& stream) { return static_cast<CudaStream&>(stream); }

}  // namespace gale::cuda
