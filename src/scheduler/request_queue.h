// Sequences in the admission policy's order: those that wait, and those that run. Layer L3.
#pragma once

#include <deque>

#include "request/sequence.h"
#include "scheduler/admission_policy.h"

namespace gale {

/// A sorted deque of sequences that somebody else owns. Arrivals mostly sort last and departures
/// first, so both are O(1) in practice; anything else moves pointers.
class RequestQueue {
 public:
  explicit RequestQueue(const AdmissionPolicy& policy) : policy_(&policy) {}

  void Push(Sequence& seq);
  void PopFront() { seqs_.pop_front(); }
  void PopBack() { seqs_.pop_back(); }
  void Remove(const Sequence& seq);  ///< CHECKs that it is there

  Sequence& front() const { return *seqs_.front(); }
  Sequence& back() const { return *seqs_.back(); }
  Sequence& operator[](size_t i) const { return *seqs_[i]; }
  size_t size() const { return seqs_.size(); }
  bool empty() const { return seqs_.empty(); }
  auto begin() const { return seqs_.begin(); }
  auto end() const { return seqs_.end(); }

 private:
  const AdmissionPolicy* policy_;
  std::deque<Sequence*> seqs_;
};

}  // namespace gale
