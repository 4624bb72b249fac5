#include "scheduler/admission_policy.h"

namespace gale {
namespace {

class PriorityPolicy final : public AdmissionPolicy {
 public:
  bool Before(const Sequence& a, const Sequence& b) const override {
    if (a.request->priority != b.request->priority)
      return a.request->priority < b.request->priority;
    if (a.turn.deadline != b.turn.deadline) return a.turn.deadline < b.turn.deadline;
    // Ids are given in order of arrival; later steps of a beam search keep their request's place.
    if (a.request->id != b.request->id) return a.request->id < b.request->id;
    return a.id < b.id;
  }
};

}  // namespace

std::unique_ptr<AdmissionPolicy> MakePriorityPolicy() { return std::make_unique<PriorityPolicy>(); }

}  // namespace gale
