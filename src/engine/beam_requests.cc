#include "engine/beam_requests.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

namespace gale {
namespace {

/// A request of greedy steps, of which only the log-probabilities matter.
std::shared_ptr<Request> StepwiseRequest(const std::shared_ptr<const Request>& search,
                                         int max_tokens, int num_alternatives) {
  auto request = std::make_shared<Request>();
  request->id = search->id;
  request->parent = search;
  request->is_stepwise = true;
  request->prompt = search->prompt;
  request->sampling.temperature = 0;
  request->sampling.max_tokens = max_tokens;
  request->sampling.logprobs = num_alternatives;
  request->priority = search->priority;
  request->cache_salt = search->cache_salt;
  return request;
}

void KeepTop(std::vector<PositionLogprobs>& logprobs, int count) {
  for (PositionLogprobs& position : logprobs) {
    const auto kept = std::min(position.top.size(), static_cast<size_t>(count));
    position.top.resize(kept);
  }
}

}  // namespace

void BeamRequests::Add(const std::shared_ptr<const Request>& request) {
  const int room = max_model_len_ - static_cast<int>(request->prompt.size());
  const int max_tokens = std::min(request->sampling.max_tokens, room);
  BeamSearch beams(request->sampling, request->stop_token_ids, max_tokens);
  const auto steps = StepwiseRequest(request, max_tokens, beams.num_alternatives());
  searches_.emplace(steps.get(), Search{.request = request,
                                        .beams = std::move(beams),
                                        .seqs = {},
                                        .next = std::vector<PositionLogprobs>(1)});
  scheduler_.Add(steps);
}

std::vector<SequenceUpdate> BeamRequests::Absorb(std::vector<SequenceUpdate> updates) {
  std::vector<SequenceUpdate> others;
  for (SequenceUpdate& update : updates) {
    if (!update.request->is_stepwise) {
      others.push_back(std::move(update));
    } else if (const auto found = searches_.find(update.request.get()); found != searches_.end()) {
      std::ranges::move(Take(found, update), std::back_inserter(others));
    }
  }
  return others;
}

/// What the update brings the search to; empty while it goes on.
std::vector<SequenceUpdate> BeamRequests::Take(Searches::iterator found, SequenceUpdate& update) {
  Search& search = found->second;
  if (search.seqs.empty()) {  // the first one
    search.seqs.push_back(update.id);
    search.num_cached = update.num_cached;
    search.first_scheduled_s = update.first_scheduled_s;
  }
  const auto seq = std::ranges::find(search.seqs, update.id);
  if (seq == search.seqs.end()) return {};  // the end of a beam that was given up
  const bool is_token =
      update.finish_reason == FinishReason::kNone || update.finish_reason == FinishReason::kLength;
  if (!is_token) return End(found, update);
  search.next[static_cast<size_t>(seq - search.seqs.begin())] = std::move(update.logprobs.at(0));
  if (--search.num_missing > 0) return {};
  search.beams.Advance(search.next);
  if (search.beams.is_done()) return End(found, update);
  Step(search);
  return {};
}

/// Sequences for the beams that run now.
void BeamRequests::Step(Search& search) {
  const std::vector<Beam>& running = search.beams.running();
  std::vector<SeqId> seqs(running.size());
  std::vector<bool> goes_on(search.seqs.size());
  for (const Beam& beam : running) goes_on[beam.parent] = true;
  for (size_t i = 0; i < goes_on.size(); ++i) {
    if (!goes_on[i]) scheduler_.Finish(search.seqs[i], FinishReason::kStop);
  }
  // The best of a beam's continuations keeps its sequence, once the others have branched off.
  for (size_t i = running.size(); i-- > 0;) {
    const Beam& beam = running[i];
    const auto is_sibling = [&](const Beam& other) { return other.parent == beam.parent; };
    const bool is_best = std::ranges::none_of(std::span(running).first(i), is_sibling);
    if (is_best) {
      seqs[i] = search.seqs[beam.parent];
      scheduler_.Continue(seqs[i], beam.tokens.back());
    } else {
      seqs[i] = scheduler_.Branch(search.seqs[beam.parent], beam.tokens.back());
    }
  }
  search.seqs = std::move(seqs);
  search.next.assign(running.size(), {});
  search.num_missing = running.size();
}

/// `last` has completed the search, or one of its sequences was cancelled or has failed.
std::vector<SequenceUpdate> BeamRequests::End(Searches::iterator found,
                                              const SequenceUpdate& last) {
  const Search& search = found->second;
  const SamplingParams& sampling = search.request->sampling;
  for (const SeqId seq : search.seqs) scheduler_.Finish(seq, FinishReason::kStop);
  std::vector<SequenceUpdate> results;
  for (int i = 0; i < sampling.n; ++i) {
    SequenceUpdate& result = results.emplace_back();
    result.request = search.request;
    result.sample_index = i;
    result.num_cached = search.num_cached;
    result.first_scheduled_s = search.first_scheduled_s;
    result.finish_reason = last.finish_reason;
    result.error = last.error;
    if (!search.beams.is_done()) continue;
    result.finish_reason = FinishReason::kLength;  // of a vocabulary that has no n beams
    const auto rank = static_cast<size_t>(i);
    if (rank >= search.beams.finished().size()) continue;
    const Beam& beam = search.beams.finished()[rank];
    result.tokens = beam.tokens;
    result.logprobs = beam.logprobs;
    KeepTop(result.logprobs, sampling.logprobs.value_or(0));
    result.finish_reason = beam.finish_reason;
  }
  searches_.erase(found);
  return results;
}

}  // namespace gale
