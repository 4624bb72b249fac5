#include "scheduler/fair_shares.h"

#include <algorithm>

namespace gale {

double FairShares::Arrive(const std::string& client, double expected_tokens) {
  const std::lock_guard lock(mutex_);
  Client& state = clients_[client];
  const double tag = std::max(now_, state.next_tag);
  state.next_tag = tag + expected_tokens;
  ++state.num_live;
  ++num_live_;
  return tag;
}

void FairShares::Begin(double tag) {
  const std::lock_guard lock(mutex_);
  now_ = std::max(now_, tag);
}

void FairShares::End(const std::string& client, double expected_tokens, double taken_tokens) {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(client);
  Client& state = found->second;
  state.next_tag += taken_tokens - expected_tokens;
  if (--state.num_live == 0 && state.next_tag <= now_) clients_.erase(found);
  if (--num_live_ == 0) {  // whoever comes next has nobody to be fair to
    clients_.clear();
    now_ = 0;
  }
}

}  // namespace gale
