#include "scheduler/request_queue.h"

#include <algorithm>

#include "base/check.h"

namespace gale {

void RequestQueue::Push(Sequence& seq) {
  if (seqs_.empty() || policy_->Before(*seqs_.back(), seq)) {
    seqs_.push_back(&seq);
    return;
  }
  const auto before = [this](const Sequence* a, const Sequence* b) {
    return policy_->Before(*a, *b);
  };
  seqs_.insert(std::upper_bound(seqs_.begin(), seqs_.end(), &seq, before), &seq);
}

void RequestQueue::Remove(const Sequence& seq) {
  const auto before = [this](const Sequence* a, const Sequence* b) {
    return policy_->Before(*a, *b);
  };
  const auto found = std::lower_bound(seqs_.begin(), seqs_.end(), &seq, before);
  GALE_CHECK(found != seqs_.end() && *found == &seq);
  seqs_.erase(found);
}

}  // namespace gale
