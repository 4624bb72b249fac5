// Which of two sequences goes first, wherever the scheduler must choose. Layer L3.
#pragma once

#include <memory>

#include "request/sequence.h"

namespace gale {

/// A strict total order that does not change while the sequences are in a queue. The first in order
/// is admitted and served first; the last is preempted first.
class AdmissionPolicy {
 public:
  virtual ~AdmissionPolicy() = default;
  virtual bool Before(const Sequence& a, const Sequence& b) const = 0;
};

/// Smaller Request::priority first, then earlier deadlines of turns, then first come, first served.
std::unique_ptr<AdmissionPolicy> MakePriorityPolicy();

}  // namespace gale
