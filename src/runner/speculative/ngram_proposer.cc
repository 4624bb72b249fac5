#include "runner/speculative/ngram_proposer.h"

#include <array>

namespace gale {

Status NgramProposer::Allocate(const DraftDevice& device) {
  texts_.resize(static_cast<size_t>(device.limits.max_seqs));
  return {};
}

SuffixAutomaton::Match NgramProposer::Match(const RunnerSequence& seq) {
  SuffixAutomaton& text = texts_[static_cast<size_t>(seq.slot)];
  for (auto i = static_cast<size_t>(text.size()); i < seq.tokens.size(); ++i) {
    text.Extend(seq.tokens[i]);
  }
  return text.LongestRepeat();
}

int32_t NgramProposer::Grade(const RunnerSequence& seq) {
  // Shortest match of each grade from 1 on, as measured on prose (docs/speculative.md).
  constexpr std::array<int32_t, 7> kShortest = {1, 2, 3, 4, 6, 9, 16};
  const int32_t length = Match(seq).length;
  int32_t grade = 0;
  for (const int32_t shortest : kShortest) grade += length >= shortest ? 1 : 0;
  return grade;
}

Status NgramProposer::Propose(std::span<DraftTask> tasks) {
  for (DraftTask& task : tasks) {
    const std::vector<TokenId>& tokens = task.seq->tokens;
    const SuffixAutomaton::Match match = Match(*task.seq);
    if (match.length == 0) task.num_tokens = 0;
    // What is repeated may reach into the draft itself.
    const auto begin = static_cast<size_t>(match.end);
    for (size_t i = begin; i < begin + static_cast<size_t>(task.num_tokens); ++i) {
      task.tokens.push_back(i < tokens.size() ? tokens[i] : task.tokens[i - tokens.size()]);
    }
  }
  return {};
}

void NgramProposer::Forget(const RunnerSequence& seq) {
  texts_[static_cast<size_t>(seq.slot)] = SuffixAutomaton();
}

}  // namespace gale
