#include "scheduler/fair_shares.h"

#include <algorithm>

namespace gale {
namespace {

constexpr double kPromptToken = 0.25;  // of a generated one: what it takes of a device's time
constexpr double kPatience = 500;

}  // namespace

FairShares::Client& FairShares::Enter(const Sequence& seq) {
  double least = clients_.empty() ? 0 : clients_.begin()->second.served;
  for (const auto& [name, client] : clients_) least = std::min(least, client.served);
  Client& client = clients_.try_emplace(LineOf(seq), Client{.served = least}).first->second;
  ++client.num_live;
  return client;
}

void FairShares::SetDeadline(Sequence& seq) const {
  const double first = kPromptToken * seq.num_prompt + first_turn_tokens_;
  seq.turn.deadline = num_served_ + kPatience * first * seq.turn.num_tokens / first_turn_tokens_;
}

void FairShares::Arrive(Sequence& seq) {
  if (fairness_ == Fairness::kNone) return;
  Enter(seq);
  if (fairness_ != Fairness::kTurns) return;
  seq.turn.num_tokens = first_turn_tokens_;
  seq.turn.end = static_cast<int32_t>(seq.tokens.size()) + first_turn_tokens_;
  SetDeadline(seq);
}

void FairShares::Join(Sequence& child, const Sequence& parent) {
  child.turn = parent.turn;
  if (fairness_ != Fairness::kNone) Enter(child);
}

void FairShares::Charge(Sequence& seq, int32_t begin, int32_t end) {
  begin = std::max(begin, seq.turn.num_charged);
  const int32_t num_new = end - begin;
  if (fairness_ == Fairness::kNone || num_new <= 0) return;
  seq.turn.num_charged = end;
  const int32_t of_prompt = std::clamp(seq.num_prompt - begin, 0, num_new);
  clients_.at(LineOf(seq)).served += kPromptToken * of_prompt + (num_new - of_prompt);
  num_served_ += num_new;
}

void FairShares::NextTurn(Sequence& seq) {
  do {
    seq.turn.num_tokens *= 2;
    seq.turn.end += seq.turn.num_tokens;
  } while (IsOver(seq));
  SetDeadline(seq);
}

void FairShares::Leave(const Sequence& seq) {
  if (fairness_ == Fairness::kNone) return;
  const auto found = clients_.find(LineOf(seq));
  if (--found->second.num_live == 0) clients_.erase(found);
}

const std::string& FairShares::LineOf(const Sequence& seq) const {
  static const std::string everybody;
  return fairness_ == Fairness::kNone ? everybody : seq.request->origin().client;
}

double FairShares::Served(const Sequence& seq) const {
  return fairness_ == Fairness::kNone ? 0 : clients_.at(LineOf(seq)).served;
}

}  // namespace gale
