// Sequences that wait: each client has a queue, and the clients take turns. Layer L3; owned by the
// Scheduler.
#pragma once

#include <map>
#include <string>

#include "scheduler/fair_shares.h"
#include "scheduler/request_queue.h"

namespace gale {

/// Smaller priorities go first; of equal ones those whose client has been served less; of one
/// client those that the policy puts first.
class WaitingLine {
 public:
  WaitingLine(const AdmissionPolicy& policy, const FairShares& shares)
      : policy_(&policy), shares_(&shares) {}

  void Push(Sequence& seq);
  void Remove(const Sequence& seq);  ///< CHECKs that it is there
  /// Who goes next. Cost: O(clients).
  Sequence& front() const;
  /// Whether `a` would go before `b`, if both waited.
  bool Before(const Sequence& a, const Sequence& b) const;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  template <class Visit>
  void ForEach(Visit visit) const {
    for (const auto& [client, queue] : queues_) {
      for (Sequence* seq : queue) visit(*seq);
    }
  }

 private:
  const AdmissionPolicy* policy_;
  const FairShares* shares_;
  std::map<std::string, RequestQueue> queues_;  ///< by client, none empty
  size_t size_ = 0;
};

}  // namespace gale
