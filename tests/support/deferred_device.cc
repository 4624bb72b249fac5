#include "support/deferred_device.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <thread>
#include <tuple>
#include <vector>

#include "backend/registry.h"
#include "base/blocking_queue.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace gale {
namespace {

using Work = std::function<void()>;

std::atomic<bool> frozen = false;

class DeferredEvent final : public Event {
 public:
  Result<bool> HasPassed() override { return passed_->load(); }
  double SecondsSince(const Event&) const override { return 0; }

 private:
  friend class DeferredStream;
  std::shared_ptr<std::atomic<bool>> passed_ = std::make_shared<std::atomic<bool>>(true);
};

class DeferredStream final : public Stream {
 public:
  DeferredStream() : thread_([this] { Run(); }) {}
  ~DeferredStream() override {
    work_.Close();
    thread_.join();
  }

  void Enqueue(Work work) {
    recording_ != nullptr ? recording_->push_back(std::move(work))
                          : static_cast<void>(work_.Push(std::move(work)));
  }
  std::vector<Work> RecordWork(const std::function<void()>& enqueue) {
    std::vector<Work> recorded;
    recording_ = &recorded;
    enqueue();
    recording_ = nullptr;
    return recorded;
  }

  Status Synchronize() override {
    std::promise<void> done;
    Enqueue([&done] { done.set_value(); });
    done.get_future().wait();
    return {};
  }
  void Record(Event& event) override {
    auto passed = std::make_shared<std::atomic<bool>>(false);
    static_cast<DeferredEvent&>(event).passed_ = passed;
    Enqueue([passed] {
      passed->store(true);
      passed->notify_all();
    });
  }
  void Wait(Event& event) override {
    Enqueue([passed = static_cast<DeferredEvent&>(event).passed_] { passed->wait(false); });
  }

 private:
  void Run() {
    while (std::optional<Work> work = work_.Pop()) {
      frozen.wait(true);
      (*work)();
    }
  }

  BlockingQueue<Work> work_;
  std::vector<Work>* recording_ = nullptr;
  std::thread thread_;
};

void Enqueue(Stream& stream, Work work) {
  static_cast<DeferredStream&>(stream).Enqueue(std::move(work));
}

class DeferredGraph final : public Graph {
 public:
  explicit DeferredGraph(std::vector<Work> work) : work_(std::move(work)) {}
  void Launch(Stream& stream) override {
    for (const Work& work : work_) Enqueue(stream, work);
  }

 private:
  std::vector<Work> work_;
};

class DeferredLinear final : public LinearKernel {
 public:
  DeferredLinear(const LinearKernel* inner, Stream& stream) : inner_(inner), stream_(stream) {}
  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    return inner_->Prepare(weight);
  }
  void Run(Stream& stream, const LinearArgs& args) const override {
    Enqueue(stream, [this, args] { inner_->Run(stream_, args); });
  }
  void RunGrouped(Stream& stream, const GroupedLinearArgs& args) const override {
    Enqueue(stream, [this, args] { inner_->RunGrouped(stream_, args); });
  }
  void RunBatched(Stream& stream, const BatchedLinearArgs& args) const override {
    Enqueue(stream, [this, args] { inner_->RunBatched(stream_, args); });
  }

 private:
  const LinearKernel* inner_;
  Stream& stream_;
};

/// The plan that travels through the caller's memory says how tokens fall on sequences, and their
/// lengths: [cu_seqlens_q | seq_lens_upper].
class DeferredAttention final : public AttentionBackend {
 public:
  DeferredAttention(std::unique_ptr<AttentionBackend> inner, Stream& stream)
      : inner_(std::move(inner)), stream_(stream) {}

  std::span<const int> BlockTokens() const override { return inner_->BlockTokens(); }
  size_t BytesPerBlock(int block_tokens) const override {
    return inner_->BytesPerBlock(block_tokens);
  }
  void BindCache(const KvCacheView& cache) override { inner_->BindCache(cache); }
  size_t PlanBytes(int, int max_seqs) const override {
    return (2 * static_cast<size_t>(max_seqs) + 1) * sizeof(int32_t);
  }
  void Plan(const AttentionBatch& batch) override {
    batch_ = batch;
    const auto begins = std::as_bytes(batch.cu_seqlens_q);
    const auto lengths = std::as_bytes(batch.seq_lens_upper);
    GALE_CHECK_LE(begins.size() + lengths.size(), batch.host_plan.size());
    std::ranges::copy(begins, batch.host_plan.begin());
    std::ranges::copy(lengths, batch.host_plan.begin() + std::ssize(begins));
  }
  void WriteKv(Stream& stream, const KvWriteArgs& args) override {
    Enqueue(stream, [this, args] { inner_->WriteKv(stream_, args); });
  }
  void Run(Stream& stream, const AttentionArgs& args) override {
    Enqueue(stream, [this, args, batch = batch_]() mutable {
      const auto num_seqs = static_cast<size_t>(batch.seq_lens.dim(0));
      const auto* plan = static_cast<const int32_t*>(batch.device_plan);
      batch.cu_seqlens_q = {plan, num_seqs + 1};
      batch.seq_lens_upper = {plan + num_seqs + 1, num_seqs};
      for (size_t s = 0; s < num_seqs; ++s) {
        GALE_CHECK_EQ(batch.seq_lens_upper[s], batch.seq_lens.As<int32_t>()[s]);
      }
      inner_->Plan(batch);
      inner_->Run(stream_, args);
    });
  }

 private:
  std::unique_ptr<AttentionBackend> inner_;
  Stream& stream_;
  AttentionBatch batch_;
};

class DeferredBackend final : public Backend {
 public:
  explicit DeferredBackend(std::unique_ptr<Backend> inner)
      : inner_(std::move(inner)), stream_(inner_->CreateStream()) {}

  DeviceInfo info() const override {
    DeviceInfo info = inner_->info();
    info.name = "deferred";
    info.is_asynchronous = true;
    info.is_host_memory = false;  // as the loader is to believe
    return info;
  }
  Result<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    return inner_->Allocate(bytes, kind);
  }
  std::unique_ptr<Stream> CreateStream() override { return std::make_unique<DeferredStream>(); }
  std::unique_ptr<Event> CreateEvent() override { return std::make_unique<DeferredEvent>(); }
  Result<std::unique_ptr<Graph>> Capture(Stream& stream,
                                         const std::function<void()>& enqueue) override {
    return std::make_unique<DeferredGraph>(
        static_cast<DeferredStream&>(stream).RecordWork(enqueue));
  }
  void Copy(Stream& stream, void* dst, const void* src, size_t bytes) override {
    Enqueue(stream, [=, this] { inner_->Copy(*stream_, dst, src, bytes); });
  }
  const LinearKernel* FindLinear(const LinearKey& key) const override {
    const LinearKernel* inner = inner_->FindLinear(key);
    if (inner == nullptr) return nullptr;
    std::unique_ptr<DeferredLinear>& kernel = linear_[inner];
    if (kernel == nullptr) kernel = std::make_unique<DeferredLinear>(inner, *stream_);
    return kernel.get();
  }
  std::unique_ptr<AttentionBackend> CreateAttention(const AttentionSpec& spec) override {
    constexpr int kMaxHeadDim = 256;  // accelerators have such limits
    if (spec.head_dim > kMaxHeadDim) return nullptr;
    return std::make_unique<DeferredAttention>(inner_->CreateAttention(spec), *stream_);
  }

  void Embedding(Stream& stream, const EmbeddingArgs& args) override {
    Defer(stream, &Backend::Embedding, args);
  }
  void RmsNorm(Stream& stream, const RmsNormArgs& args) override {
    Defer(stream, &Backend::RmsNorm, args);
  }
  void QkvRope(Stream& stream, const QkvRopeArgs& args) override {
    Defer(stream, &Backend::QkvRope, args);
  }
  void GatedActivation(Stream& stream, const GatedActivationArgs& args) override {
    Defer(stream, &Backend::GatedActivation, args);
  }
  void AddSilu(Stream& stream, const AddSiluArgs& args) override {
    Defer(stream, &Backend::AddSilu, args);
  }
  void Softcap(Stream& stream, const SoftcapArgs& args) override {
    Defer(stream, &Backend::Softcap, args);
  }
  void Rotate(Stream& stream, const RotateArgs& args) override {
    Defer(stream, &Backend::Rotate, args);
  }
  void MoeRoute(Stream& stream, const MoeRouteArgs& args) override {
    Defer(stream, &Backend::MoeRoute, args);
  }
  void MoeCombine(Stream& stream, const MoeCombineArgs& args) override {
    Defer(stream, &Backend::MoeCombine, args);
  }
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override {
    Defer(stream, &Backend::GatherRows, args);
  }
  void EditLogits(Stream& stream, const EditLogitsArgs& args) override {
    Defer(stream, &Backend::EditLogits, args);
  }
  void Sample(Stream& stream, const SampleArgs& args) override {
    Defer(stream, &Backend::Sample, args);
  }
  void Logprobs(Stream& stream, const LogprobsArgs& args) override {
    Defer(stream, &Backend::Logprobs, args);
  }
  void FillRandom(Stream& stream, const FillRandomArgs& args) override {
    Defer(stream, &Backend::FillRandom, args);
  }
  void ProbeRead(Stream& stream, const TensorView& memory) override {
    Defer(stream, &Backend::ProbeRead, memory);
  }
  double ProbeProducts(Stream&) override { return inner_->ProbeProducts(*stream_); }

 private:
  template <class Args>
  void Defer(Stream& stream, void (Backend::*op)(Stream&, const Args&), const Args& args) {
    Enqueue(stream, [this, op, args] { (inner_.get()->*op)(*stream_, args); });
  }

  std::unique_ptr<Backend> inner_;
  std::unique_ptr<Stream> stream_;  ///< of the inner back end, which has no use for it
  mutable std::map<const LinearKernel*, std::unique_ptr<DeferredLinear>> linear_;
};

Result<std::unique_ptr<Backend>> CreateDeferredBackend(const BackendOptions& options) {
  GALE_ASSIGN_OR_RETURN(std::unique_ptr<Backend> inner, CreateBackend("cpu", options));
  return std::make_unique<DeferredBackend>(std::move(inner));
}

const bool kRegistered = RegisterBackend("deferred", CreateDeferredBackend);

}  // namespace

void FreezeDeferredDevice(bool freeze) {
  frozen = freeze;
  frozen.notify_all();
}

}  // namespace gale
