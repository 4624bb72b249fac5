#include "runner/speculative/suffix_automaton.h"

namespace gale {
namespace {

/// So many states learn where their texts have just ended; shorter texts than theirs are no use,
/// and a text of one token only would have as many states as tokens.
constexpr int kMostUpdates = 16;

uint64_t KeyOf(int32_t state, TokenId token) {
  return uint64_t{static_cast<uint32_t>(state)} << 32 | static_cast<uint32_t>(token);
}

}  // namespace

int32_t SuffixAutomaton::AddState(int32_t length, int32_t end) {
  states_.push_back({.length = length, .end = end});
  return static_cast<int32_t>(states_.size()) - 1;
}

void SuffixAutomaton::AddEdge(int32_t state, TokenId token, int32_t target) {
  State& from = states_[static_cast<size_t>(state)];
  edge_of_[KeyOf(state, token)] = static_cast<int32_t>(edges_.size());
  edges_.push_back({.token = token, .target = target, .next = from.first_edge});
  from.first_edge = static_cast<int32_t>(edges_.size()) - 1;
}

SuffixAutomaton::Edge* SuffixAutomaton::FindEdge(int32_t state, TokenId token) {
  const auto found = edge_of_.find(KeyOf(state, token));
  return found == edge_of_.end() ? nullptr : &edges_[static_cast<size_t>(found->second)];
}

void SuffixAutomaton::Extend(TokenId token) {
  ++size_;
  const int32_t current = AddState(size_, size_);
  int32_t state = last_;
  last_ = current;
  const Edge* edge = nullptr;
  while (state != kNone && (edge = FindEdge(state, token)) == nullptr) {
    AddEdge(state, token, current);
    state = states_[static_cast<size_t>(state)].link;
  }
  int32_t link = 0;
  if (state != kNone) {
    link = edge->target;
    const int32_t length = states_[static_cast<size_t>(state)].length + 1;
    if (states_[static_cast<size_t>(link)].length != length) link = Split(state, token, link);
  }
  states_[static_cast<size_t>(current)].link = link;
  const State& repeated = states_[static_cast<size_t>(link)];
  repeat_ = {.length = repeated.length, .end = repeated.end};
  for (int i = 0; i < kMostUpdates && link != 0; ++i) {
    states_[static_cast<size_t>(link)].end = size_;
    link = states_[static_cast<size_t>(link)].link;
  }
}

/// The shorter texts of `target`, those that `state` and its links lead to by `token`, get a state
/// of their own: they have ended at one place more.
int32_t SuffixAutomaton::Split(int32_t state, TokenId token, int32_t target) {
  const State whole = states_[static_cast<size_t>(target)];
  const int32_t length = states_[static_cast<size_t>(state)].length + 1;
  const int32_t part = AddState(length, whole.end);
  states_[static_cast<size_t>(part)].link = whole.link;
  for (int32_t e = whole.first_edge; e != kNone;) {
    const Edge edge = edges_[static_cast<size_t>(e)];
    AddEdge(part, edge.token, edge.target);
    e = edge.next;
  }
  states_[static_cast<size_t>(target)].link = part;
  while (state != kNone) {
    Edge* edge = FindEdge(state, token);
    if (edge->target != target) break;
    edge->target = part;
    state = states_[static_cast<size_t>(state)].link;
  }
  return part;
}

}  // namespace gale
