#include "server/generation_reply.h"

#include <utility>

#include <boost/json/serialize.hpp>
#include <boost/json/value_from.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "server/sse.h"

namespace gale::server {
namespace {

namespace json = boost::json;

ChunkWriter::UsageIn UsageIn(const GenerationRequest& request) {
  if (request.continuous_usage_stats) return ChunkWriter::UsageIn::kEveryChunk;
  return request.include_usage ? ChunkWriter::UsageIn::kLastChunk : ChunkWriter::UsageIn::kNoChunk;
}

}  // namespace

GenerationReply::GenerationReply(LlmEngine& engine, ServerMetrics& metrics,
                                 std::shared_ptr<HttpExchange> exchange, AnswerHead head,
                                 GenerationRequest request, std::vector<Prompt> prompts)
    : engine_(engine),
      metrics_(metrics),
      exchange_(std::move(exchange)),
      head_(std::move(head)),
      request_(std::move(request)),
      chunks_(head_, UsageIn(request_)),
      choices_(prompts.size() * static_cast<size_t>(request_.sampling.n)),
      num_unfinished_(prompts.size()) {
  for (Prompt& prompt : prompts) {
    usage_.prompt_tokens += static_cast<int>(prompt.tokens.size());
    parts_.push_back({.prompt = std::move(prompt)});
  }
}

void GenerationReply::Start() {
  if (request_.stream) {
    exchange_->ExpectStream(
        {.content_type = "text/event-stream; charset=utf-8",
         .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    RequestParams params;
    params.sampling = request_.sampling;
    params.priority = request_.priority;
    params.client = exchange_->key_name();
    params.cache_salt = request_.cache_salt;
    params.timeout_s = request_.timeout_s;
    {
      const std::lock_guard lock(mutex_);
      if (done_) return;
      params.prompt = parts_[i].prompt.tokens;
    }
    // Not under the lock, which the callback takes on another thread.
    const Result<RequestId> id = engine_.AddRequest(
        std::move(params),
        [self = shared_from_this(), i](const RequestOutput& output) { self->OnOutput(i, output); });
    const std::lock_guard lock(mutex_);
    if (!id) return Fail(FromEngine(id.error(), /*was_queued=*/false));
    parts_[i].id = *id;
    if (done_) engine_.Cancel(*id);
  }
  exchange_->OnGone([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      const std::lock_guard lock(self->mutex_);
      self->CancelAll();
    }
  });
}

void GenerationReply::OnOutput(size_t part_index, const RequestOutput& output) {
  const std::lock_guard lock(mutex_);
  if (done_) return;
  Part& part = parts_[part_index];
  if (output.error) return Fail(FromEngine(*output.error, /*was_queued=*/true));
  usage_.cached_tokens +=
      output.cached_tokens - std::exchange(part.cached_tokens, output.cached_tokens);
  const int first_choice = static_cast<int>(part_index) * request_.sampling.n;
  for (const SampleOutput& news : output.samples) {
    if (news.finish_reason == FinishReason::kCancelled) {
      return Fail(Unavailable("The server is shutting down; try again"));
    }
    const int index = first_choice + news.index;
    ChoiceState& state = choices_[static_cast<size_t>(index)];
    if (!std::exchange(state.begun, true)) Begin(part, state, index);
    Take(news, state, index);
  }
  if (output.finished) {
    AddPromptLogprobs(part, output, first_choice);
    if (--num_unfinished_ == 0) return Finish();
  }
  if (request_.stream) exchange_->Write(std::exchange(events_, {}));
}

void GenerationReply::Begin(Part& part, ChoiceState& state, int index) {
  if (!request_.stream) {
    state.choice.text = part.prompt.echo;
    if (request_.return_token_ids) state.choice.token_ids = json::array();
  } else if (head_.is_chat) {
    chunks_.Role(index, usage_, events_);
  } else if (!part.prompt.echo.empty()) {
    chunks_.Delta({.index = index, .text = part.prompt.echo}, usage_, events_);
  }
}

void GenerationReply::Take(const SampleOutput& news, ChoiceState& state, int index) {
  usage_.completion_tokens += static_cast<int>(news.tokens.size());
  if (request_.logprobs) TakeLogprobs(news, state);
  if (!request_.stream) {
    state.choice.text += news.text;
    state.choice.finish_reason = news.finish_reason;
    if (request_.return_token_ids) {
      json::array& ids = state.choice.token_ids.get_array();
      for (const TokenId id : news.tokens) ids.push_back(id);
    }
    return;
  }
  const bool has_more = !news.tokens.empty() && (request_.logprobs || request_.return_token_ids);
  if (!news.text.empty() || has_more) {
    std::string logprobs;
    if (request_.logprobs) logprobs = json::serialize(LogprobsJson(state));
    std::string more;
    if (request_.return_token_ids) {
      more = fmt::format(",\"token_ids\":[{}]", fmt::join(news.tokens, ","));
    }
    chunks_.Delta({.index = index, .text = news.text, .logprobs = logprobs, .more = more}, usage_,
                  events_);
  }
  if (news.finish_reason != FinishReason::kNone) {
    chunks_.Finish(index, news.finish_reason, usage_, events_);
  }
}

void GenerationReply::TakeLogprobs(const SampleOutput& news, ChoiceState& state) {
  const Tokenizer& tokenizer = *engine_.tokenizer();
  if (head_.is_chat) {
    for (json::value& entry : ChatLogprobs(tokenizer, news.logprobs)) {
      state.chat_logprobs.push_back(std::move(entry));
    }
  } else {
    for (const PositionLogprobs& position : news.logprobs) state.logprobs.Add(tokenizer, position);
  }
}

/// Those of the prompt come last and are told first.
void GenerationReply::AddPromptLogprobs(const Part& part, const RequestOutput& last,
                                        int first_choice) {
  if (!request_.echo || !request_.logprobs) return;
  const Tokenizer& tokenizer = *engine_.tokenizer();
  for (int i = first_choice; i < first_choice + request_.sampling.n; ++i) {
    ChoiceState& state = choices_[static_cast<size_t>(i)];
    CompletionLogprobs whole;
    whole.AddBare(tokenizer, part.prompt.tokens[0]);
    for (const PositionLogprobs& position : last.prompt_logprobs) whole.Add(tokenizer, position);
    whole.Append(state.logprobs);
    state.logprobs = std::move(whole);
  }
}

json::value GenerationReply::LogprobsJson(ChoiceState& state) {
  if (!head_.is_chat) return state.logprobs.Take();
  return json::object{{"content", std::exchange(state.chat_logprobs, {})}, {"refusal", nullptr}};
}

void GenerationReply::Finish() {
  done_ = true;
  metrics_.CountTokens(exchange_->key_name(), usage_);
  if (request_.stream) {
    chunks_.Total(usage_, events_);
    events_ += kDoneEvent;
    exchange_->Write(std::exchange(events_, {}));
    exchange_->End();
    return;
  }
  std::vector<Choice> choices;
  for (ChoiceState& state : choices_) {
    if (request_.logprobs) state.choice.logprobs = LogprobsJson(state);
    choices.push_back(std::move(state.choice));
  }
  exchange_->Send({.body = WholeAnswer(head_, choices, usage_)});
}

void GenerationReply::Fail(const ApiError& error) {
  CancelAll();
  if (exchange_->Send(ErrorResponse(error))) return;
  std::string events = std::exchange(events_, {});
  AppendEvent(ErrorBody(error), events);
  events += kDoneEvent;
  exchange_->Write(events);
  exchange_->End();
}

void GenerationReply::CancelAll() {
  done_ = true;
  for (const Part& part : parts_) {
    if (part.id != 0) engine_.Cancel(part.id);
  }
}

}  // namespace gale::server
