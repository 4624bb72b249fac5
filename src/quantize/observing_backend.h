// A device in whose linear layers somebody looks on: all ops are another back end's, and the rows
// that a weight meets are shown first. How calibration sees what nn/ knows nothing of.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <unordered_map>

#include "backend/backend.h"

namespace gale {

class ObservingBackend : public Backend {
 public:
  /// `weight` is the packed weight's data, which tells weights apart; `rows` [n, in] are on the
  /// device, and what was enqueued before has yet to run.
  using Observer = std::function<void(Stream& stream, const void* weight, const TensorView& rows)>;
  /// The packed form of a weight has been made.
  using PackObserver = std::function<void(const PackedLinear& weight)>;

  explicit ObservingBackend(Backend& inner);
  ~ObservingBackend() override;
  void set_observer(Observer observer) { observer_ = std::move(observer); }
  void set_pack_observer(PackObserver observer) { pack_observer_ = std::move(observer); }
  /// That of the last RmsNorm: of all of a model's.
  float norm_weight_offset() const { return norm_weight_offset_; }

  DeviceInfo info() const override { return inner_.info(); }
  Result<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    return inner_.Allocate(bytes, kind);
  }
  std::unique_ptr<Stream> CreateStream() override { return inner_.CreateStream(); }
  std::unique_ptr<Event> CreateEvent() override { return inner_.CreateEvent(); }
  void Copy(Stream& stream, void* dst, const void* src, size_t bytes) override {
    inner_.Copy(stream, dst, src, bytes);
  }
  const LinearKernel* FindLinear(const LinearKey& key) const override;
  std::unique_ptr<AttentionBackend> CreateAttention(const AttentionSpec& spec) override {
    return inner_.CreateAttention(spec);
  }

  void Embedding(Stream& stream, const EmbeddingArgs& args) override {
    inner_.Embedding(stream, args);
  }
  void RmsNorm(Stream& stream, const RmsNormArgs& args) override {
    norm_weight_offset_ = args.weight_offset;
    inner_.RmsNorm(stream, args);
  }
  void QkvRope(Stream& stream, const QkvRopeArgs& args) override { inner_.QkvRope(stream, args); }
  void Rotate(Stream& stream, const RotateArgs& args) override { inner_.Rotate(stream, args); }
  void GatedActivation(Stream& stream, const GatedActivationArgs& args) override {
    inner_.GatedActivation(stream, args);
  }
  void AddSilu(Stream& stream, const AddSiluArgs& args) override { inner_.AddSilu(stream, args); }
  void Softcap(Stream& stream, const SoftcapArgs& args) override { inner_.Softcap(stream, args); }
  void MoeRoute(Stream& stream, const MoeRouteArgs& args) override {
    inner_.MoeRoute(stream, args);
  }
  void MoeCombine(Stream& stream, const MoeCombineArgs& args) override {
    inner_.MoeCombine(stream, args);
  }
  void GatherRows(Stream& stream, const GatherRowsArgs& args) override {
    inner_.GatherRows(stream, args);
  }
  void EditLogits(Stream& stream, const EditLogitsArgs& args) override {
    inner_.EditLogits(stream, args);
  }
  void Sample(Stream& stream, const SampleArgs& args) override { inner_.Sample(stream, args); }
  void Logprobs(Stream& stream, const LogprobsArgs& args) override {
    inner_.Logprobs(stream, args);
  }
  void FillRandom(Stream& stream, const FillRandomArgs& args) override {
    inner_.FillRandom(stream, args);
  }
  void ProbeRead(Stream& stream, const TensorView& memory) override {
    inner_.ProbeRead(stream, memory);
  }
  double ProbeProducts(Stream& stream) override { return inner_.ProbeProducts(stream); }

 private:
  class Kernel;

  Backend& inner_;
  Observer observer_;
  PackObserver pack_observer_;
  float norm_weight_offset_ = 0;
  mutable std::unordered_map<const LinearKernel*, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace gale
