#include "cli/output_queue.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>

#include <sys/eventfd.h>
#include <unistd.h>

namespace gale::cli {

OutputQueue::OutputQueue() : event_fd_(eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)) {
  if (event_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

OutputQueue::~OutputQueue() { close(event_fd_); }

OutputCallback OutputQueue::Callback() {
  return [this](const RequestOutput& output) {
    {
      const std::lock_guard lock(mutex_);
      outputs_.push_back(output);
    }
    eventfd_write(event_fd_, 1);
  };
}

RequestOutput OutputQueue::Pop() {
  eventfd_t count = 0;
  while (eventfd_read(event_fd_, &count) != 0 && errno == EINTR) {
  }
  const std::lock_guard lock(mutex_);
  RequestOutput output = std::move(outputs_.front());
  outputs_.pop_front();
  return output;
}

void Reply::Add(RequestOutput output) {
  for (SampleOutput& news : output.samples) {
    const auto index = static_cast<size_t>(news.index);
    if (samples.size() <= index) samples.resize(index + 1);
    SampleReply& sample = samples[index];
    sample.text += news.text;
    sample.tokens.insert(sample.tokens.end(), news.tokens.begin(), news.tokens.end());
    std::move(news.logprobs.begin(), news.logprobs.end(), std::back_inserter(sample.logprobs));
    sample.cumulative_logprob = news.cumulative_logprob;
    if (news.finish_reason != FinishReason::kNone) sample.finish_reason = news.finish_reason;
  }
  last = std::move(output);
}

int64_t Reply::generated_tokens() const {
  int64_t count = 0;
  for (const SampleReply& sample : samples) count += static_cast<int64_t>(sample.tokens.size());
  return count;
}

Status RunAll(LlmEngine& engine, const std::vector<RequestParams>& requests,
              const std::function<Status(size_t index, Reply reply)>& on_done) {
  struct Running {
    size_t index = 0;
    Reply reply;
  };
  OutputQueue queue;
  std::map<RequestId, Running> running;
  Status status;
  const auto max_running = static_cast<size_t>(std::max(1, engine.config().max_queued_requests));
  for (size_t next = 0; next < requests.size() || !running.empty();) {
    while (status && next < requests.size() && running.size() < max_running) {
      const Result<RequestId> id = engine.AddRequest(requests[next], queue.Callback());
      if (id) {
        running[*id].index = next++;
        continue;
      }
      Reply refused;
      refused.last.finished = true;
      refused.last.error = id.error();
      status = on_done(next++, std::move(refused));
    }
    if (!status) next = requests.size();
    if (running.empty()) continue;
    RequestOutput output = queue.Pop();
    const auto entry = running.find(output.id);
    entry->second.reply.Add(std::move(output));
    if (!entry->second.reply.last.finished) continue;
    if (status) status = on_done(entry->second.index, std::move(entry->second.reply));
    running.erase(entry);
    if (!status) {
      for (const auto& [id, unused] : running) engine.Cancel(id);
    }
  }
  return status;
}

}  // namespace gale::cli
