// Every text that has come in a growing sequence of tokens, in linear room, so that the longest end
// of it that came before is known at once. Layer L4; used by NgramProposer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "request/sequence.h"

namespace gale {

/// Blumer et al. 1985 ("The smallest automaton recognizing the subwords of a text"). A state stands
/// for texts that end at the same places; of these it keeps one, mostly the latest.
/// Cost: O(1) amortized for each token; at most 2 states and 3 edges for one.
class SuffixAutomaton {
 public:
  SuffixAutomaton() { AddState(0, 0); }

  void Extend(TokenId token);
  int32_t size() const { return size_; }

  /// The last `length` tokens are also those before position `end` < size().
  struct Match {
    int32_t length = 0;  ///< 0: the last token is new
    int32_t end = 0;
  };
  Match LongestRepeat() const { return repeat_; }

 private:
  static constexpr int32_t kNone = -1;
  struct State {
    int32_t length = 0;    ///< of its longest text
    int32_t link = kNone;  ///< to the longest end of that which is in another state
    int32_t end = 0;       ///< where its texts have ended
    int32_t first_edge = kNone;
  };
  struct Edge {
    TokenId token = 0;
    int32_t target = 0;
    int32_t next = kNone;  ///< of the same state
  };

  int32_t AddState(int32_t length, int32_t end);
  void AddEdge(int32_t state, TokenId token, int32_t target);
  Edge* FindEdge(int32_t state, TokenId token);
  int32_t Split(int32_t state, TokenId token, int32_t target);

  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::unordered_map<uint64_t, int32_t> edge_of_;  ///< {state, token} -> index
  int32_t last_ = 0;                               ///< of the whole text
  int32_t size_ = 0;
  Match repeat_;
};

}  // namespace gale
