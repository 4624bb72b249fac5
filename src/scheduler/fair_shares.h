// What each client has had, and how long each sequence may go on before others have their turn.
// Layer L3; owned by the Scheduler.
#pragma once

#include <string>
#include <unordered_map>

#include "request/sequence.h"

namespace gale {

enum class Fairness {
  kNone,    ///< first come, first served
  kShares,  ///< between clients
  kTurns,   ///< and between the sequences of each, turn by turn
};

/// Between clients: virtual token counters (arXiv:2401.00588), a prompt's token a quarter of a
/// generated one. Whoever has been served less goes first; who has been away comes back with the
/// least count of those who are there, and so has saved nothing up.
///
/// Between the sequences of one client, with kTurns: skip-join multi-level feedback (FastServe,
/// arXiv:2305.05920). Nobody knows how long an answer will be; one that has used up its turn gets
/// another one, twice as long, and waits longer for it. The first level is the one that the prompt
/// is worth. Where FastServe has queues of levels, a turn has a deadline: so many tokens after it
/// was given as it is long, times kPatience. Those served by then bound the wait of the longest
/// answer; up to then, shorter turns go first.
class FairShares {
 public:
  FairShares(Fairness fairness, int first_turn_tokens)
      : fairness_(fairness), first_turn_tokens_(first_turn_tokens) {}

  /// Gives a new sequence its first turn. Its request, tokens and num_prompt are set.
  void Arrive(Sequence& seq);
  /// The child goes on where its parent stands, with the same turn.
  void Join(Sequence& child, const Sequence& parent);
  /// Positions [begin, end) are being computed. What is computed again is not charged again.
  void Charge(Sequence& seq, int32_t begin, int32_t end);
  /// Whether the turn is over, and others may go first.
  bool IsOver(const Sequence& seq) const { return seq.num_launched() >= seq.turn.end; }
  /// Gives the sequence the turn that goes on where it stands.
  void NextTurn(Sequence& seq);
  void Leave(const Sequence& seq);

  /// What the sequence's client has had, in generated tokens; 0 with kNone.
  double Served(const Sequence& seq) const;
  /// The line that the sequence waits in: its client's, or with kNone one for all.
  const std::string& LineOf(const Sequence& seq) const;

 private:
  struct Client {
    double served = 0;
    int num_live = 0;
  };

  Client& Enter(const Sequence& seq);
  void SetDeadline(Sequence& seq) const;

  Fairness fairness_;
  int first_turn_tokens_;
  double num_served_ = 0;                            ///< tokens, of all clients
  std::unordered_map<std::string, Client> clients_;  ///< those with live sequences
};

}  // namespace gale
