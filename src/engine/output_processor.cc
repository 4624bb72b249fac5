#include "engine/output_processor.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <utility>

#include <pthread.h>

#include "engine/clock.h"

namespace gale {
namespace {

template <class T>
void MoveAppend(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

/// Of a sum as of a mean the direction counts.
std::vector<float> UnitVector(std::vector<float> sum) {
  double squares = 0;
  for (const float value : sum) squares += static_cast<double>(value) * value;
  const double length = std::sqrt(squares);
  if (length > 0) {
    for (float& value : sum) value = static_cast<float>(value / length);
  }
  return sum;
}

/// Best first; of equal ones the earlier sample.
void KeepBest(int count, std::vector<SampleOutput>& samples) {
  std::ranges::stable_sort(samples, std::greater(), [](const SampleOutput& sample) {
    return sample.cumulative_logprob.value_or(-std::numeric_limits<double>::infinity());
  });
  samples.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < samples.size(); ++i) samples[i].index = static_cast<int>(i);
}

}  // namespace

OutputProcessor::Sample::Sample(const SamplingParams& sampling)
    : stop(sampling.stop, sampling.include_stop) {}

OutputProcessor::OutputProcessor(const Tokenizer* tokenizer, int max_model_len, Hooks hooks)
    : tokenizer_(tokenizer),
      hooks_(std::move(hooks)),
      metrics_(max_model_len),
      thread_([this] { Run(); }) {}

OutputProcessor::~OutputProcessor() {
  events_.Close();
  thread_.join();
}

void OutputProcessor::Add(std::shared_ptr<const Request> request, OutputCallback callback) {
  Record record;
  record.callback = std::move(callback);
  record.added_s = NowSeconds();
  record.num_running = request->sampling.n;
  for (int i = 0; i < request->sampling.n; ++i) {
    record.samples.emplace_back(request->sampling).delta.index = i;
  }
  record.request = std::move(request);
  events_.Push(Added{std::move(record)});
}

void OutputProcessor::Push(std::vector<SequenceUpdate> step) { events_.Push(std::move(step)); }

void OutputProcessor::End(RequestId id, FinishReason reason, std::optional<Error> error) {
  events_.Push(Ended{id, reason, std::move(error)});
}

void OutputProcessor::Run() {
  pthread_setname_np(pthread_self(), "gale-output");
  while (std::optional<Event> event = events_.Pop()) {
    std::visit([this](auto& what) { Handle(what); }, *event);
  }
}

void OutputProcessor::Handle(Added& event) {
  const RequestId id = event.record.request->id;
  records_.emplace(id, std::move(event.record));
}

void OutputProcessor::Handle(Ended& event) {
  const auto found = records_.find(event.id);
  if (found == records_.end()) return;
  Record& record = found->second;
  record.error = std::move(event.error);
  for (Sample& sample : record.samples) EndSample(record, sample, event.reason);
  Deliver(event.id, record);
}

void OutputProcessor::Handle(std::vector<SequenceUpdate>& step) {
  std::vector<std::pair<RequestId, Record*>> changed;  // in the step's order, each once
  now_s_ = NowSeconds();
  for (SequenceUpdate& update : step) {
    const auto found = records_.find(update.request->id);
    if (found == records_.end()) continue;
    Record& record = found->second;
    Apply(record, update);
    if (!std::exchange(record.changed, true)) changed.emplace_back(found->first, &record);
  }
  metrics_.NextTokens(token_gaps_s_);
  token_gaps_s_.clear();
  for (const auto& [id, record] : changed) Deliver(id, *record);
}

void OutputProcessor::Apply(Record& record, SequenceUpdate& update) {
  Sample& sample = record.samples[static_cast<size_t>(update.sample_index)];
  if (!record.scheduled && update.first_scheduled_s > 0) {
    record.scheduled = true;
    record.times.queued_s = update.first_scheduled_s - record.added_s;
    record.cached_tokens = update.num_cached;
  }
  MoveAppend(record.prompt_logprobs, update.prompt_logprobs);
  if (!update.pooled.empty()) record.embedding = UnitVector(std::move(update.pooled));
  if (sample.finish_reason != FinishReason::kNone) return;  // a stop string was faster
  ApplyTokens(record, sample, update);
  if (update.error && !record.error) record.error = std::move(update.error);
  if (update.finish_reason != FinishReason::kNone) EndSample(record, sample, update.finish_reason);
}

void OutputProcessor::CountTokens(Record& record, Sample& sample, int num_tokens) {
  if (num_tokens == 0) return;
  record.generated_tokens += num_tokens;
  if (record.times.first_token_s == 0) {
    record.times.first_token_s = now_s_ - record.added_s;
    metrics_.FirstToken(record.times.first_token_s);
  } else if (sample.last_token_s > 0) {
    token_gaps_s_.push_back(now_s_ - sample.last_token_s);
  }
  sample.last_token_s = now_s_;
}

void OutputProcessor::ApplyTokens(Record& record, Sample& sample, SequenceUpdate& update) {
  CountTokens(record, sample, static_cast<int>(update.tokens.size()));
  if (tokenizer_ != nullptr && !sample.detokenizer) {
    // The text goes on from the prompt's: without it, a decoder would drop a leading space.
    sample.detokenizer.emplace(*tokenizer_);
    sample.detokenizer->Push(record.request->prompt.back());
  }
  for (size_t i = 0; i < update.tokens.size(); ++i) {
    sample.changed = true;
    sample.delta.tokens.push_back(update.tokens[i]);
    if (i < update.logprobs.size()) TakeLogprobs(*record.request, sample, update.logprobs[i]);
    ++sample.num_tokens;
    sample.delta.text +=
        sample.stop.Push(Detokenize(record, sample, update, i), MayStop(record, sample));
    if (sample.stop.matched()) {
      EndSample(record, sample, FinishReason::kStop);
      hooks_.on_stop_string(update.id);
      return;
    }
  }
}

void OutputProcessor::TakeLogprobs(const Request& request, Sample& sample,
                                   PositionLogprobs& logprobs) {
  sample.cumulative_logprob = sample.cumulative_logprob.value_or(0) + logprobs.chosen.logprob;
  if (request.returns_logprobs) sample.delta.logprobs.push_back(std::move(logprobs));
}

/// The text that token `i` completes. The token that ended a sequence is no text unless wanted.
std::string OutputProcessor::Detokenize(const Record& record, Sample& sample,
                                        const SequenceUpdate& update, size_t i) {
  const bool is_stop_token =
      update.finish_reason == FinishReason::kStop && i + 1 == update.tokens.size();
  if (!sample.detokenizer || (is_stop_token && !record.request->sampling.include_stop)) return {};
  return sample.detokenizer->Push(update.tokens[i]);
}

/// Whether the text of the last token may end in a stop string.
bool OutputProcessor::MayStop(const Record& record, const Sample& sample) {
  return sample.num_tokens > record.request->sampling.min_tokens;
}

void OutputProcessor::EndSample(Record& record, Sample& sample, FinishReason reason) {
  if (sample.finish_reason != FinishReason::kNone) return;
  if (sample.detokenizer && !sample.stop.matched()) {
    sample.delta.text += sample.stop.Push(sample.detokenizer->Flush(), MayStop(record, sample));
    sample.delta.text += sample.stop.Flush();
  }
  sample.finish_reason = reason;
  sample.changed = true;
  --record.num_running;
}

std::vector<SampleOutput> OutputProcessor::TakeDeltas(Record& record) {
  std::vector<SampleOutput> deltas;
  for (Sample& sample : record.samples) {
    if (!sample.changed) continue;
    sample.changed = false;
    sample.delta.finish_reason = sample.finish_reason;
    sample.delta.cumulative_logprob = sample.cumulative_logprob;
    const int index = sample.delta.index;
    deltas.push_back(std::exchange(sample.delta, {}));
    sample.delta.index = index;
  }
  return deltas;
}

void OutputProcessor::Deliver(RequestId id, Record& record) {
  record.changed = false;
  RequestOutput output;
  output.id = id;
  output.finished = record.num_running == 0;
  const bool ranks = record.request->num_returned > 0;
  if (ranks && !output.finished) return;  // nobody knows yet which ones will be returned
  output.samples = TakeDeltas(record);
  if (ranks) KeepBest(record.request->num_returned, output.samples);
  if (output.samples.empty()) return;

  output.prompt_tokens = static_cast<int>(record.request->prompt.size());
  output.cached_tokens = record.cached_tokens;
  output.times = record.times;
  if (!output.finished) {
    record.callback(output);
    return;
  }
  output.times.total_s = NowSeconds() - record.added_s;
  metrics_.End(*record.request, output.samples[0].finish_reason, output.times,
               record.generated_tokens);
  output.prompt_logprobs = std::move(record.prompt_logprobs);
  output.embedding = std::move(record.embedding);
  output.error = std::move(record.error);
  const OutputCallback callback = std::move(record.callback);
  records_.erase(id);
  hooks_.on_finished(id);
  callback(output);
}

}  // namespace gale
