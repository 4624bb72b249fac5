#include "scheduler/waiting_line.h"

#include "base/check.h"

namespace gale {

void WaitingLine::Push(Sequence& seq) {
  queues_.try_emplace(shares_->LineOf(seq), *policy_).first->second.Push(seq);
  ++size_;
}

void WaitingLine::Remove(const Sequence& seq) {
  const auto found = queues_.find(shares_->LineOf(seq));
  GALE_CHECK(found != queues_.end());
  found->second.Remove(seq);
  if (found->second.empty()) queues_.erase(found);
  --size_;
}

bool WaitingLine::Before(const Sequence& a, const Sequence& b) const {
  if (a.request->priority != b.request->priority) return a.request->priority < b.request->priority;
  const double served_a = shares_->Served(a);
  const double served_b = shares_->Served(b);
  return served_a != served_b ? served_a < served_b : policy_->Before(a, b);
}

Sequence& WaitingLine::front() const {
  Sequence* first = nullptr;
  for (const auto& [client, queue] : queues_) {
    if (first == nullptr || Before(queue.front(), *first)) first = &queue.front();
  }
  GALE_CHECK(first != nullptr);
  return *first;
}

}  // namespace gale
