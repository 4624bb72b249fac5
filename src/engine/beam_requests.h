// Runs beam searches: each of them is a stepwise request, whose sequences are its running beams.
// Layer L5; owned by EngineCore, used on the engine thread only.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/beam_search.h"
#include "request/sequence.h"
#include "scheduler/scheduler.h"

namespace gale {

/// After each step a beam that goes on in one way keeps its sequence; one that goes on in several
/// branches, so that beams share the blocks of what they have in common; one that is given up ends.
class BeamRequests {
 public:
  BeamRequests(Scheduler& scheduler, int max_model_len)
      : scheduler_(scheduler), max_model_len_(max_model_len) {}

  /// A request with num_beams > 1. It ends in one update for each of its n samples.
  void Add(const std::shared_ptr<const Request>& request);
  /// Takes what belongs to searches out of `updates` and puts the ends of searches in.
  std::vector<SequenceUpdate> Absorb(std::vector<SequenceUpdate> updates);

 private:
  struct Search {
    std::shared_ptr<const Request> request;
    BeamSearch beams;
    std::vector<SeqId> seqs;             ///< [running beams]
    std::vector<PositionLogprobs> next;  ///< [running beams], as they come
    size_t num_missing = 1;
    int32_t num_cached = 0;
    double first_scheduled_s = 0;
  };
  using Searches = std::unordered_map<const Request*, Search>;

  std::vector<SequenceUpdate> Take(Searches::iterator found, SequenceUpdate& update);
  void Step(Search& search);
  std::vector<SequenceUpdate> End(Searches::iterator found, const SequenceUpdate& last);

  Scheduler& scheduler_;
  int max_model_len_;
  Searches searches_;  ///< by their stepwise requests
};

}  // namespace gale
