#include "engine/request_metrics.h"

#include <algorithm>
#include <numeric>

namespace gale {
namespace {

// The bounds are vLLM's, so that dashboards made for it show the same.
const std::vector<double> kFirstTokenBounds = {.001, .005, .01, .02, .04, .06, .08, .1,
                                               .25,  .5,   .75, 1,   2.5, 5,   7.5, 10,
                                               20,   40,   80,  160, 640, 2560};
const std::vector<double> kTokenGapBounds = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                             .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const std::vector<double> kRequestBounds = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                            30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const std::vector<double> kSampleBounds = {1, 2, 5, 10, 20};

}  // namespace

Histogram::Histogram(std::vector<double> upper) : bounds(std::move(upper)) {
  counts.resize(bounds.size() + 1);
}

void Histogram::Observe(double value) {
  ++counts[static_cast<size_t>(std::ranges::lower_bound(bounds, value) - bounds.begin())];
  sum += value;
}

uint64_t Histogram::total() const {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

std::vector<double> TokenBounds(int most) {
  std::vector<double> bounds;
  for (int64_t decade = 1; decade <= most; decade *= 10) {
    for (const int64_t factor : {1, 2, 5}) {
      if (decade * factor < most) bounds.push_back(static_cast<double>(decade * factor));
    }
  }
  bounds.push_back(most);
  return bounds;
}

RequestMetrics::RequestMetrics(int max_model_len) {
  const std::vector<double> tokens = TokenBounds(max_model_len);
  metrics_.time_to_first_token = Histogram(kFirstTokenBounds);
  metrics_.inter_token_latency = Histogram(kTokenGapBounds);
  metrics_.time_per_output_token = Histogram(kTokenGapBounds);
  for (Histogram* of_request :
       {&metrics_.e2e_latency, &metrics_.queue_time, &metrics_.inference_time,
        &metrics_.prefill_time, &metrics_.decode_time}) {
    *of_request = Histogram(kRequestBounds);
  }
  for (Histogram* of_tokens :
       {&metrics_.prompt_tokens, &metrics_.generation_tokens, &metrics_.max_tokens}) {
    *of_tokens = Histogram(tokens);
  }
  metrics_.num_samples = Histogram(kSampleBounds);
}

void RequestMetrics::FirstToken(double since_added_s) {
  const std::lock_guard lock(mutex_);
  metrics_.time_to_first_token.Observe(since_added_s);
}

void RequestMetrics::NextTokens(std::span<const double> gaps_s) {
  const std::lock_guard lock(mutex_);
  for (const double gap_s : gaps_s) metrics_.inter_token_latency.Observe(gap_s);
}

void RequestMetrics::End(const Request& request, FinishReason reason, const RequestTimes& times,
                         int generated_tokens) {
  const std::lock_guard lock(mutex_);
  ++metrics_.finished[static_cast<size_t>(reason)];
  metrics_.e2e_latency.Observe(times.total_s);
  metrics_.prompt_tokens.Observe(static_cast<double>(request.prompt.size()));
  metrics_.generation_tokens.Observe(generated_tokens);
  metrics_.max_tokens.Observe(request.sampling.max_tokens);
  metrics_.num_samples.Observe(request.sampling.n);
  if (times.first_token_s == 0) return;  // it never got to run
  metrics_.queue_time.Observe(times.queued_s);
  metrics_.inference_time.Observe(times.total_s - times.queued_s);
  metrics_.prefill_time.Observe(times.first_token_s - times.queued_s);
  metrics_.decode_time.Observe(times.total_s - times.first_token_s);
  const int more_tokens = generated_tokens / request.sampling.n - 1;
  if (more_tokens > 0) {
    metrics_.time_per_output_token.Observe((times.total_s - times.first_token_s) / more_tokens);
  }
}

EngineMetrics RequestMetrics::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return metrics_;
}

}  // namespace gale
