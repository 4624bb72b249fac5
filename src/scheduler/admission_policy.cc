#include "scheduler/admission_policy.h"

namespace gale {
namespace {

class PriorityPolicy final : public AdmissionPolicy {
 public:
  bool Before(const Sequence& a, const Sequence& b) const override {
    if (a.request->priority != b.request->priority)
      return a.request->priority < b.request->priority;
    return a.id < b.id;  // ids are given in order of arrival
  }
};

}  // namespace

std::unique_ptr<AdmissionPolicy> MakePriorityPolicy() { return std::make_unique<PriorityPolicy>(); }

}  // namespace gale
