#include "quantize/observing_backend.h"

#include "base/status_macros.h"

namespace gale {

/// Fused ops of the base class call Run, so that they are seen too.
class ObservingBackend::Kernel : public LinearKernel {
 public:
  Kernel(const ObservingBackend& backend, const LinearKernel& inner)
      : backend_(backend), inner_(inner) {}

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    GALE_ASSIGN_OR_RETURN(PackedLinear packed, inner_.Prepare(weight));
    if (backend_.pack_observer_) backend_.pack_observer_(packed);
    return packed;
  }
  size_t PackedBytes(const LinearKey& key) const override { return inner_.PackedBytes(key); }
  void Run(Stream& stream, const LinearArgs& args) const override {
    if (backend_.observer_) backend_.observer_(stream, args.weight->data.data, args.x);
    inner_.Run(stream, args);
  }
  void RunGrouped(Stream& stream, const GroupedLinearArgs& args) const override {
    inner_.RunGrouped(stream, args);
  }
  void RunBatched(Stream& stream, const BatchedLinearArgs& args) const override {
    inner_.RunBatched(stream, args);
  }

 private:
  const ObservingBackend& backend_;
  const LinearKernel& inner_;
};

ObservingBackend::ObservingBackend(Backend& inner) : inner_(inner) {}
ObservingBackend::~ObservingBackend() = default;

const LinearKernel* ObservingBackend::FindLinear(const LinearKey& key) const {
  const LinearKernel* inner = inner_.FindLinear(key);
  if (inner == nullptr) return nullptr;
  std::unique_ptr<Kernel>& kernel = kernels_[inner];
  if (kernel == nullptr) kernel = std::make_unique<Kernel>(*this, *inner);
  return kernel.get();
}

}  // namespace gale
