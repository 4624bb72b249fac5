#include "engine/output_processor.h"

#include <iterator>
#include <utility>

namespace gale {
namespace {

double SecondsSince(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

template <class T>
void MoveAppend(std::vector<T>& to, std::vector<T>& from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

OutputProcessor::Sample::Sample(const Tokenizer* tokenizer, const SamplingParams& sampling)
    : stop(sampling.stop, sampling.include_stop) {
  if (tokenizer != nullptr) detokenizer.emplace(*tokenizer);
}

OutputProcessor::OutputProcessor(const Tokenizer* tokenizer, Hooks hooks)
    : tokenizer_(tokenizer), hooks_(std::move(hooks)), thread_([this] { Run(); }) {}

OutputProcessor::~OutputProcessor() {
  events_.Close();
  thread_.join();
}

void OutputProcessor::Add(std::shared_ptr<const Request> request, OutputCallback callback) {
  Record record;
  record.callback = std::move(callback);
  record.added = Clock::now();
  record.num_running = request->sampling.n;
  for (int i = 0; i < request->sampling.n; ++i) {
    record.samples.emplace_back(tokenizer_, request->sampling).delta.index = i;
  }
  record.request = std::move(request);
  events_.Push(Added{std::move(record)});
}

void OutputProcessor::Push(std::vector<SequenceNews> step) { events_.Push(std::move(step)); }

void OutputProcessor::Fail(RequestId id, Error error) {
  events_.Push(Failed{id, std::move(error)});
}

void OutputProcessor::Run() {
  while (std::optional<Event> event = events_.Pop()) {
    std::visit([this](auto& what) { Handle(what); }, *event);
  }
}

void OutputProcessor::Handle(Added& event) {
  const RequestId id = event.record.request->id;
  records_.emplace(id, std::move(event.record));
}

void OutputProcessor::Handle(Failed& event) {
  const auto found = records_.find(event.id);
  if (found == records_.end()) return;
  Record& record = found->second;
  record.error = std::move(event.error);
  for (Sample& sample : record.samples) End(record, sample, FinishReason::kError);
  Deliver(event.id, record);
}

void OutputProcessor::Handle(std::vector<SequenceNews>& step) {
  std::vector<RequestId> changed;  // in the step's order, each once
  for (SequenceNews& news : step) {
    const auto found = records_.find(news.request->id);
    if (found == records_.end()) continue;
    Record& record = found->second;
    Apply(record, news);
    if (!std::exchange(record.changed, true)) changed.push_back(found->first);
  }
  for (const RequestId id : changed) Deliver(id, records_.at(id));
}

void OutputProcessor::Apply(Record& record, SequenceNews& news) {
  Sample& sample = record.samples[static_cast<size_t>(news.sample_index)];
  if (!record.scheduled) {
    record.scheduled = true;
    record.times.queued_s = SecondsSince(record.added, news.launched);
    record.cached_tokens = news.cached_tokens;
  }
  if (news.sample_index == 0) MoveAppend(record.prompt_logprobs, news.prompt_logprobs);
  if (sample.finish_reason != FinishReason::kNone) return;  // a stop string was faster
  ApplyTokens(record, sample, news);
  if (news.error && !record.error) record.error = std::move(news.error);
  if (news.finish_reason != FinishReason::kNone) End(record, sample, news.finish_reason);
}

void OutputProcessor::ApplyTokens(Record& record, Sample& sample, SequenceNews& news) {
  if (!news.tokens.empty() && record.times.first_token_s == 0) {
    record.times.first_token_s = SecondsSince(record.added, Clock::now());
  }
  for (size_t i = 0; i < news.tokens.size(); ++i) {
    sample.changed = true;
    sample.delta.tokens.push_back(news.tokens[i]);
    if (i < news.logprobs.size()) sample.delta.logprobs.push_back(std::move(news.logprobs[i]));
    sample.delta.text += sample.stop.Push(Detokenize(record, sample, news, i));
    if (sample.stop.matched()) {
      End(record, sample, FinishReason::kStop);
      hooks_.on_stop_string(news.seq);
      return;
    }
  }
}

/// The text that token `i` completes. The token that ended a sequence is no text unless wanted.
std::string OutputProcessor::Detokenize(const Record& record, Sample& sample,
                                        const SequenceNews& news, size_t i) {
  const bool is_stop_token =
      news.finish_reason == FinishReason::kStop && i + 1 == news.tokens.size();
  if (!sample.detokenizer || (is_stop_token && !record.request->sampling.include_stop)) return {};
  return sample.detokenizer->Push(news.tokens[i]);
}

void OutputProcessor::End(Record& record, Sample& sample, FinishReason reason) {
  if (sample.finish_reason != FinishReason::kNone) return;
  if (sample.detokenizer && !sample.stop.matched()) {
    sample.delta.text += sample.stop.Push(sample.detokenizer->Flush());
    sample.delta.text += sample.stop.Flush();
  }
  sample.finish_reason = reason;
  sample.changed = true;
  --record.num_running;
}

void OutputProcessor::Deliver(RequestId id, Record& record) {
  record.changed = false;
  RequestOutput output;
  output.id = id;
  output.finished = record.num_running == 0;
  for (Sample& sample : record.samples) {
    if (!sample.changed) continue;
    sample.changed = false;
    sample.delta.finish_reason = sample.finish_reason;
    const int index = sample.delta.index;
    output.samples.push_back(std::exchange(sample.delta, {}));
    sample.delta.index = index;
  }
  if (output.samples.empty()) return;

  output.prompt_tokens = static_cast<int>(record.request->prompt.size());
  output.cached_tokens = record.cached_tokens;
  output.times = record.times;
  if (!output.finished) {
    record.callback(output);
    return;
  }
  output.times.total_s = SecondsSince(record.added, Clock::now());
  output.prompt_logprobs = std::move(record.prompt_logprobs);
  output.error = std::move(record.error);
  const OutputCallback callback = std::move(record.callback);
  records_.erase(id);
  hooks_.on_finished(id);
  callback(output);
}

}  // namespace gale
