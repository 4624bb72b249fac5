// The CPU as a back end: host memory, a stream that is always done, ops on a pool of threads.
// Layer L1b; registered as "cpu".
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <sys/mman.h>

#include "backend/cpu/linear.h"
#include "backend/cpu/ops.h"
#include "backend/cpu/panel_packing.h"
#include "backend/registry.h"
#include "base/host_limits.h"
#include "base/status_macros.h"
#include "tensor/ggml_block.h"

namespace gale {
namespace cpu {

Result<Buffer> AllocateMemory(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t available = ReadHostMemory().available_bytes;
  void* data = MAP_FAILED;
  // Asked first, because Linux grants what it does not have and kills the process later.
  if (bytes <= available) {
    data = mmap(nullptr, std::max<size_t>(bytes, 1), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  if (data == MAP_FAILED) {
    return MakeError(ErrorCode::kResourceExhausted,
                     fmt::format("cpu: {} bytes of memory wanted, {} available; free some or "
                                 "lower the memory settings",
                                 bytes, available));
  }
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);  // fewer TLB misses; may fail freely
  return Buffer(data, bytes, [](void* p, size_t n) { munmap(p, std::max<size_t>(n, 1)); });
}

}  // namespace cpu

namespace {

/// Every op is complete when it returns.
class CpuStream final : public Stream {
 public:
  Status Synchronize() override { return {}; }
  void Record(Event&) override {}
  void Wait(Event&) override {}
};

class CpuEvent final : public Event {
 public:
  Result<bool> HasPassed() override { return true; }
  double SecondsSince(const Event&) const override { return 0; }
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuKernels& kernels, int threads, std::string note)
      : context_(kernels, threads),
        rows_(cpu::CreateRowLinear(context_)),
        bf16_panels_(cpu::CreatePanelLinear(context_, /*is_bf16=*/true)),
        code_panels_(cpu::CreatePanelLinear(context_, /*is_bf16=*/false)),
        note_(std::move(note)) {}

  DeviceInfo info() const override {
    const HostMemory memory = ReadHostMemory();
    return {.name = "cpu",
            .description = fmt::format("{}, {}, {} thread{}{}", CpuModelName(),
                                       context_.kernels.name, context_.pool.threads(),
                                       context_.pool.threads() == 1 ? "" : "s", note_),
            .total_bytes = memory.total_bytes,
            .free_bytes = memory.available_bytes,
            .is_host_memory = true,
            .is_asynchronous = false,
            .workspace_bytes = 0};
  }

  Result<Buffer> Allocate(size_t bytes, MemoryKind) override { return cpu::AllocateMemory(bytes); }

  std::unique_ptr<Stream> CreateStream() override { return std::make_unique<CpuStream>(); }
  std::unique_ptr<Event> CreateEvent() override { return std::make_unique<CpuEvent>(); }

  void Copy(Stream&, void* dst, const void* src, size_t bytes) override {
    if (bytes > 0) std::memmove(dst, src, bytes);
  }

  const LinearKernel* FindLinear(const LinearKey& key) const override {
    const QuantFormat& format = key.format;
    if (key.activation == DType::kBf16 && cpu::PanelFormatOf(format, key.in)) {
      return (format.code == BlockCode::kNone ? bf16_panels_ : code_panels_).get();
    }
    const bool is_plain = format.code == BlockCode::kNone;
    const bool is_float =
        format.data == DType::kF32 || format.data == DType::kBf16 || format.data == DType::kF16;
    const bool is_simple = format.ggml == GgmlType::kQ8_0 || format.ggml == GgmlType::kQ4_0;
    const bool weight = is_plain ? is_float : is_simple && key.in % kGgmlBlockElements == 0;
    const bool activation = key.activation == DType::kF32 || key.activation == DType::kBf16;
    return weight && activation ? rows_.get() : nullptr;
  }

  bool EmbedsBlocks(GgmlType) const override { return true; }

  std::unique_ptr<AttentionBackend> CreateAttention(const AttentionSpec& spec) override {
    return cpu::CreateAttention(context_, spec);
  }

  void Embedding(Stream&, const EmbeddingArgs& args) override { Run(cpu::Embedding, args); }
  void RmsNorm(Stream&, const RmsNormArgs& args) override { Run(cpu::RmsNorm, args); }
  void QkvRope(Stream&, const QkvRopeArgs& args) override { Run(cpu::QkvRope, args); }
  void GatedActivation(Stream&, const GatedActivationArgs& args) override {
    Run(cpu::GatedActivation, args);
  }
  void AddSilu(Stream&, const AddSiluArgs& args) override { Run(cpu::AddSilu, args); }
  void Softcap(Stream&, const SoftcapArgs& args) override { Run(cpu::Softcap, args); }
  void Rotate(Stream&, const RotateArgs& args) override { Run(cpu::Rotate, args); }
  void MoeRoute(Stream&, const MoeRouteArgs& args) override { Run(cpu::MoeRoute, args); }
  void MoeCombine(Stream&, const MoeCombineArgs& args) override { Run(cpu::MoeCombine, args); }
  void GatherRows(Stream&, const GatherRowsArgs& args) override { Run(cpu::GatherRows, args); }
  void EditLogits(Stream&, const EditLogitsArgs& args) override { Run(cpu::EditLogits, args); }
  void Sample(Stream&, const SampleArgs& args) override { Run(cpu::Sample, args); }
  void Logprobs(Stream&, const LogprobsArgs& args) override { Run(cpu::Logprobs, args); }
  void FillRandom(Stream&, const FillRandomArgs& args) override { Run(cpu::FillRandom, args); }
  void ProbeRead(Stream&, const TensorView& memory) override { Run(cpu::ProbeRead, memory); }
  double ProbeProducts(Stream&) override {
    const std::lock_guard lock(context_.mutex);
    return cpu::ProbeProducts(context_);
  }

 private:
  template <class Args>
  void Run(void (*op)(cpu::Context&, const Args&), const Args& args) {
    const std::lock_guard lock(context_.mutex);
    op(context_, args);
  }

  cpu::Context context_;
  std::unique_ptr<LinearKernel> rows_;
  std::unique_ptr<LinearKernel> bf16_panels_;
  std::unique_ptr<LinearKernel> code_panels_;
  std::string note_;
};

/// GALE_CPU_ISA names a table to use instead of the fastest, for tests and comparisons.
Result<const CpuKernels*> ChooseKernels() {
  const std::span<const CpuKernels* const> available = AvailableKernels();
  const char* wanted = std::getenv("GALE_CPU_ISA");
  if (wanted == nullptr) return available.back();
  std::string names;
  for (const CpuKernels* kernels : available) {
    if (kernels->name == wanted) return kernels;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", kernels->name);
  }
  return MakeError(ErrorCode::kUnsupported,
                   fmt::format("GALE_CPU_ISA={}: this machine has {}", wanted, names));
}

Result<std::unique_ptr<Backend>> CreateCpuBackend(const BackendOptions& options) {
  GALE_ASSIGN_OR_RETURN(const CpuKernels* kernels, ChooseKernels());
  constexpr int kMaxThreads = 1024;
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        fmt::format("threads: expected 0 (automatic) to {}, got {}", kMaxThreads, options.threads));
  }
  const int threads = options.threads > 0 ? options.threads : AvailableCpus();
  return std::make_unique<CpuBackend>(*kernels, threads, options.note);
}

const bool kRegistered = RegisterBackend("cpu", CreateCpuBackend);

}  // namespace
}  // namespace gale
