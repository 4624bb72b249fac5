#include "backend/cuda/device.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

namespace gale::cuda {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t HugePageBytes(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

void FreeHugePages(void* data, size_t bytes) {
  cudaHostUnregister(data);
  munmap(data, HugePageBytes(bytes));
}

/// Page-locked memory in huge pages, where the kernel has them: on an H200's host 4 MiB take 0.9 ms
/// in place of cudaMallocHost's 2.3, most of it without the driver's lock.
cudaError_t AllocateHugePages(size_t bytes, void** data) {
  const size_t size = HugePageBytes(bytes);
  void* mapped =
      mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return cudaErrorMemoryAllocation;
  auto* begin = static_cast<std::byte*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + size, kHugePage - before);
  *data = begin + before;
  madvise(*data, size, MADV_HUGEPAGE);
  for (size_t at = 0; at < size; at += 4096) begin[before + at] = std::byte{0};
  const cudaError_t error = cudaHostRegister(*data, size, cudaHostRegisterMapped);
  if (error != cudaSuccess) munmap(*data, size);
  return error;
}

}  // namespace

Status ToStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // clears what is not sticky
  const bool memory = error == cudaErrorMemoryAllocation;
  std::string_view advice;
  if (memory) {
    advice = "; lower kv_cache_bytes, max_num_seqs or max_num_batched_tokens";
  } else if (size_t bytes = 0; cudaMemGetInfo(&bytes, &bytes) == error) {
    advice = "; the device is lost to this process, which must be started anew";
  }
  return MakeError(memory ? ErrorCode::kResourceExhausted : ErrorCode::kDevice,
                   fmt::format("cuda: {}: {} ({}){}", what, cudaGetErrorString(error),
                               cudaGetErrorName(error), advice));
}

Result<Buffer> Allocate(size_t bytes, MemoryKind kind) {
  void* data = nullptr;
  const bool pinned = kind == MemoryKind::kPinnedHost;
  const bool in_huge_pages = pinned && bytes >= kHugePage;
  const size_t at_least_one = std::max<size_t>(bytes, 1);  // so that no buffer is null
  const cudaError_t error = in_huge_pages ? AllocateHugePages(bytes, &data)
                            : pinned      ? cudaMallocHost(&data, at_least_one)
                                          : cudaMalloc(&data, at_least_one);
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
  if (in_huge_pages) return Buffer(data, bytes, FreeHugePages);
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
  return ToStatus(TakeError(), "stream");
}

void CudaStream::Record(Event& event) {
  auto& cuda_event = static_cast<CudaEvent&>(event);
  Record(cudaEventRecord(cuda_event.event_, stream_));
  cuda_event.error_ = TakeError();
}

void CudaStream::Wait(Event& event) {
  auto& cuda_event = static_cast<CudaEvent&>(event);
  Record(std::exchange(cuda_event.error_, cudaSuccess));
  Record(cudaStreamWaitEvent(stream_, cuda_event.event_));
}

void* CudaStream::Scratch(size_t bytes) {
  const size_t held = scratch_.empty() ? 0 : scratch_.back().bytes();
  if (bytes > held) {
    auto grown = Allocate(std::max(bytes, 2 * held), MemoryKind::kDevice);
    if (!grown) {
      Record(cudaErrorMemoryAllocation);
      return nullptr;
    }
    scratch_.push_back(*std::move(grown));
  }
  return scratch_.back().data();
}

void CudaStream::OptIn(const void* kernel, size_t shared_bytes) {
  constexpr size_t kSharedWithoutOptIn = size_t{48} << 10;
  if (shared_bytes <= kSharedWithoutOptIn) return;
  size_t& granted = opted_in_[kernel];
  if (shared_bytes <= granted) return;
  Record(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(shared_bytes)));
  granted = shared_bytes;
}

CudaEvent::CudaEvent() : error_(cudaEventCreate(&event_)) {}

CudaEvent::~CudaEvent() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

double CudaEvent::SecondsSince(const Event& earlier) const {
  float milliseconds = 0;
  const auto& begin = static_cast<const CudaEvent&>(earlier);
  if (cudaEventElapsedTime(&milliseconds, begin.event_, event_) != cudaSuccess) cudaGetLastError();
  return milliseconds * 1e-3;
}

Result<bool> CudaEvent::HasPassed() {
  const cudaError_t now = cudaEventQuery(event_);
  if (now == cudaErrorNotReady) return false;
  const cudaError_t error = error_ != cudaSuccess ? error_ : now;
  error_ = cudaSuccess;
  if (error == cudaSuccess) return true;
  return tl::unexpected(ToStatus(error, "step").error());
}

namespace {

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaGraph() override { cudaGraphExecDestroy(graph_); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void Launch(Stream& stream) override {
    CudaStream& cuda_stream = AsCuda(stream);
    cuda_stream.Record(cudaGraphLaunch(graph_, cuda_stream.get()));
  }

 private:
  cudaGraphExec_t graph_;
};

}  // namespace

Result<std::unique_ptr<Graph>> Capture(CudaStream& stream, const std::function<void()>& enqueue) {
  const cudaError_t earlier = stream.TakeError();
  // Relaxed: the stream's scratch may grow meanwhile.
  stream.Record(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed));
  enqueue();
  cudaGraph_t recorded = nullptr;
  stream.Record(cudaStreamEndCapture(stream.get(), &recorded));
  cudaGraphExec_t graph = nullptr;
  if (recorded != nullptr) {
    stream.Record(cudaGraphInstantiate(&graph, recorded, 0));
    cudaGraphDestroy(recorded);
  }
  if (graph != nullptr) stream.Record(cudaGraphUpload(graph, stream.get()));
  const Status status = ToStatus(stream.TakeError(), "capture a graph");
  stream.Record(earlier);
  if (!status) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
    return tl::unexpected(status.error());
  }
  return std::make_unique<CudaGraph>(graph);
}

}  // namespace gale::cuda
