#include "engine/beam_requests.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace gale {

void BeamRequests::Add(const std::shared_ptr<const Request>& request) {
  const int room = max_model_len_ - static_cast<int>(request->prompt.size());
  const auto search = std::make_shared<Search>(
      Search{.request = request,
             .beams = BeamSearch(request->sampling, request->stop_token_ids,
                                 std::min(request->sampling.max_tokens, room)),
             .steps = {},
             .next = {}});
  Step(search);
}

void BeamRequests::Step(const std::shared_ptr<Search>& search) {
  search->steps.clear();
  search->next.clear();
  search->next.resize(search->beams.running().size());
  search->num_missing = search->next.size();
  for (const Beam& beam : search->beams.running()) {
    const auto step = std::make_shared<Request>();
    step->id = search->request->id;
    step->parent = search->request;
    step->prompt = search->request->prompt;
    step->prompt.insert(step->prompt.end(), beam.tokens.begin(), beam.tokens.end());
    step->sampling.temperature = 0;
    step->sampling.max_tokens = 1;
    step->sampling.logprobs = search->beams.num_alternatives();
    step->priority = search->request->priority;
    step->cache_salt = search->request->cache_salt;
    search->steps.push_back(step);
    searches_.emplace(step.get(), search);
    scheduler_.Add(step);
  }
}

std::vector<SequenceUpdate> BeamRequests::Absorb(std::vector<SequenceUpdate> updates) {
  if (searches_.empty()) return updates;
  std::vector<SequenceUpdate> others;
  const auto append = [&others](std::vector<SequenceUpdate> news) {
    std::ranges::move(news, std::back_inserter(others));
  };
  for (SequenceUpdate& update : updates) {
    if (update.request->parent == nullptr) {
      others.push_back(std::move(update));
      continue;
    }
    const auto found = searches_.find(update.request.get());
    if (found == searches_.end()) continue;  // its search has failed
    const std::shared_ptr<Search> search = found->second;
    searches_.erase(found);
    Take(*search, update);
    if (update.finish_reason != FinishReason::kLength) {
      append(Failure(*search, update));
    } else if (--search->num_missing == 0) {
      search->beams.Advance(search->next);
      search->beams.is_done() ? append(Results(*search)) : Step(search);
    }
  }
  return others;
}

void BeamRequests::Take(Search& search, SequenceUpdate& update) {
  if (search.first_scheduled_s == 0) {
    search.first_scheduled_s = update.first_scheduled_s;
    search.num_cached = update.num_cached;
  }
  const auto step =
      std::ranges::find(search.steps, update.request.get(), &std::shared_ptr<Request>::get);
  if (!update.logprobs.empty()) {
    search.next[static_cast<size_t>(step - search.steps.begin())] = std::move(update.logprobs[0]);
  }
}

std::vector<SequenceUpdate> BeamRequests::Results(const Search& search) const {
  const SamplingParams& sampling = search.request->sampling;
  std::vector<SequenceUpdate> results;
  for (int i = 0; i < sampling.n; ++i) {
    const std::vector<Beam>& finished = search.beams.finished();
    const bool exists = static_cast<size_t>(i) < finished.size();  // there may be too few tokens
    const Beam beam = exists ? finished[static_cast<size_t>(i)] : Beam();
    SequenceUpdate& result = results.emplace_back();
    result.request = search.request;
    result.sample_index = i;
    result.tokens = beam.tokens;
    result.logprobs = beam.logprobs;
    for (PositionLogprobs& position : result.logprobs) {
      const auto wanted = static_cast<size_t>(sampling.logprobs.value_or(0));
      if (position.top.size() > wanted) position.top.resize(wanted);
    }
    result.finish_reason = exists ? beam.finish_reason : FinishReason::kLength;
    result.num_cached = search.num_cached;
    result.first_scheduled_s = search.first_scheduled_s;
  }
  return results;
}

/// A step was cancelled or failed, and with it the search.
std::vector<SequenceUpdate> BeamRequests::Failure(const Search& search,
                                                  const SequenceUpdate& failed) {
  for (const std::shared_ptr<Request>& step : search.steps) {
    step->cancelled = true;
    searches_.erase(step.get());
  }
  std::vector<SequenceUpdate> results;
  for (int i = 0; i < search.request->sampling.n; ++i) {
    SequenceUpdate& result = results.emplace_back();
    result.request = search.request;
    result.sample_index = i;
    result.finish_reason = failed.finish_reason;
    result.error = failed.error;
    result.num_cached = search.num_cached;
    result.first_scheduled_s = search.first_scheduled_s;
  }
  return results;
}

}  // namespace gale
