// Runs beam searches: step by step, every beam of a search is a request for one token, whose prompt
// is all that the beam has so far. Layer L5; owned by EngineCore, used on the engine thread only.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/beam_search.h"
#include "request/sequence.h"
#include "scheduler/scheduler.h"

namespace gale {

/// Beams share the KV blocks of what they have in common: those of a beam's last step are in the
/// prefix cache when its next one begins, and nothing is copied. A beam computes again what lies
/// behind its last full block.
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
    std::vector<std::shared_ptr<Request>> steps;  ///< the requests of the running beams
    std::vector<PositionLogprobs> next;           ///< what came of them
    size_t num_missing = 0;
    int32_t num_cached = 0;
    double first_scheduled_s = 0;
  };

  void Step(const std::shared_ptr<Search>& search);
  void Take(Search& search, SequenceUpdate& update);
  std::vector<SequenceUpdate> Results(const Search& search) const;
  std::vector<SequenceUpdate> Failure(const Search& search, const SequenceUpdate& failed);

  Scheduler& scheduler_;
  int max_model_len_;
  std::unordered_map<const Request*, std::shared_ptr<Search>> searches_;  ///< by running step
};

}  // namespace gale
