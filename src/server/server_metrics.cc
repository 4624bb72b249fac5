#include "server/server_metrics.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

namespace gale::server {
namespace {

const std::vector<double> kHttpBounds = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60};

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double ResidentBytes() {
  double total_pages = 0;
  double resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double OpenDescriptors() {
  std::error_code ignored;
  const std::filesystem::directory_iterator first("/proc/self/fd", ignored);
  return static_cast<double>(std::distance(first, std::filesystem::directory_iterator()));
}

void WriteProcess(MetricsText& text) {
  const auto write = [&text](const char* name, const char* type, const char* help, double value) {
    text.Family(name, type, help);
    text.Sample(value);
  };
  write("process_cpu_seconds_total", "counter", "User and system time", CpuSeconds());
  write("process_resident_memory_bytes", "gauge", "Resident memory", ResidentBytes());
  write("process_open_fds", "gauge", "Open file descriptors", OpenDescriptors());
}

/// Families of one prefix.
class Families {
 public:
  Families(MetricsText& text, const std::string& prefix) : text_(text), prefix_(prefix) {}

  void Gauge(const char* name, const char* help, double value) {
    Write(name, "gauge", help, value);
  }
  void Counter(const char* name, const char* help, uint64_t value) {
    Write(name, "counter", help, static_cast<double>(value));
  }
  void Distribution(const char* name, const char* help, const Histogram& histogram) {
    text_.Family(prefix_ + name, "histogram", help);
    text_.Samples(histogram);
  }

 private:
  void Write(const char* name, const char* type, const char* help, double value) {
    text_.Family(prefix_ + name, type, help);
    text_.Sample(value);
  }

  MetricsText& text_;
  const std::string& prefix_;
};

void WriteStats(MetricsText& text, const std::string& prefix, const EngineStats& stats) {
  Families families(text, prefix);
  const double used = stats.total_blocks == 0
                          ? 0
                          : 1.0 - static_cast<double>(stats.free_blocks) / stats.total_blocks;
  families.Gauge("num_requests_running", "Sequences that hold KV blocks", stats.running_seqs);
  families.Gauge("num_requests_waiting", "Sequences that wait for KV blocks or a place",
                 stats.waiting_seqs);
  families.Gauge("kv_cache_usage_perc", "Used share of the KV blocks, 1 is all", used);
  families.Counter("prompt_tokens_total", "Prompt tokens taken in",
                   stats.prompt_tokens + stats.cached_tokens);
  families.Counter("prompt_tokens_cached_total", "Prompt tokens read from the prefix cache",
                   stats.cached_tokens);
  families.Counter("generation_tokens_total", "Tokens generated", stats.generated_tokens);
  families.Counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache",
                   stats.prompt_tokens + stats.cached_tokens);
  families.Counter("prefix_cache_hits_total", "Prompt tokens found there", stats.cached_tokens);
  families.Counter("num_preemptions_total", "Sequences that lost their KV blocks for a while",
                   stats.preemptions);
  families.Counter("kv_blocks_swapped_out_total", "Blocks moved from the KV cache to the host",
                   stats.swapped_out_blocks);
  families.Counter("kv_blocks_swapped_in_total", "Blocks moved back", stats.swapped_in_blocks);
  families.Counter("spec_decode_num_drafts_total", "Guesses of a sequence's next tokens",
                   stats.drafts);
  families.Counter("spec_decode_num_draft_tokens_total", "Tokens guessed", stats.draft_tokens);
  families.Counter("spec_decode_num_accepted_tokens_total", "Guessed tokens that were right",
                   stats.accepted_draft_tokens);
  families.Gauge("spec_decode_saved_seconds",
                 "Time of steps saved by them, less what guessing and checking took",
                 stats.draft_saved_s);
  families.Counter("engine_steps_total", "Steps of the engine", stats.steps);
}

void WriteEngineMetrics(MetricsText& text, const std::string& prefix,
                        const EngineMetrics& metrics) {
  Families families(text, prefix);
  families.Distribution("time_to_first_token_seconds", "Arrival to first token",
                        metrics.time_to_first_token);
  families.Distribution("inter_token_latency_seconds", "Token to token",
                        metrics.inter_token_latency);
  families.Distribution("request_time_per_output_token_seconds",
                        "Mean time per token of a request after its first",
                        metrics.time_per_output_token);
  families.Distribution("e2e_request_latency_seconds", "Arrival to last token",
                        metrics.e2e_latency);
  families.Distribution("request_queue_time_seconds", "Arrival to first step", metrics.queue_time);
  families.Distribution("request_inference_time_seconds", "First step to last token",
                        metrics.inference_time);
  families.Distribution("request_prefill_time_seconds", "First step to first token",
                        metrics.prefill_time);
  families.Distribution("request_decode_time_seconds", "First token to last token",
                        metrics.decode_time);
  families.Distribution("request_prompt_tokens", "Prompt tokens of a request",
                        metrics.prompt_tokens);
  families.Distribution("request_generation_tokens", "Generated tokens of a request",
                        metrics.generation_tokens);
  families.Distribution("request_params_max_tokens", "max_tokens of a request", metrics.max_tokens);
  families.Distribution("request_params_n", "n of a request", metrics.num_samples);
  families.Distribution("iteration_tokens_total", "Tokens computed in one step",
                        metrics.step_tokens);
  text.Family(prefix + "request_success_total", "counter", "Requests that ended, by how");
  static constexpr std::pair<FinishReason, const char*> kReasons[] = {
      {FinishReason::kStop, "stop"},
      {FinishReason::kLength, "length"},
      {FinishReason::kCancelled, "abort"},
      {FinishReason::kError, "error"}};
  for (const auto& [reason, name] : kReasons) {
    text.Sample(static_cast<double>(metrics.finished[static_cast<size_t>(reason)]),
                {{"finished_reason", name}});
  }
}

}  // namespace

void ServerMetrics::CountRequest(const std::string& route, const std::string& method, int status,
                                 double seconds) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, method, status}];
  durations_.try_emplace(route, kHttpBounds).first->second.Observe(seconds);
}

void ServerMetrics::CountRejection(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  ++rejections_[reason];
}

void ServerMetrics::CountTokens(const std::string& key_name, const Usage& usage) {
  const std::lock_guard lock(mutex_);
  KeyCounts& counts = keys_[key_name];
  ++counts.requests;
  counts.prompt_tokens += static_cast<uint64_t>(usage.prompt_tokens);
  counts.generation_tokens += static_cast<uint64_t>(usage.completion_tokens);
}

void ServerMetrics::WriteHttp(MetricsText& text) const {
  const std::lock_guard lock(mutex_);
  text.Family("http_requests_total", "counter", "Answered requests; 499: the client went");
  for (const auto& [labels, count] : requests_) {
    const auto& [route, method, status] = labels;
    text.Sample(static_cast<double>(count),
                {{"handler", route}, {"method", method}, {"status", std::to_string(status)}});
  }
  text.Family("http_request_duration_seconds", "histogram", "First byte in to last byte out");
  for (const auto& [route, histogram] : durations_) text.Samples(histogram, {{"handler", route}});
}

void ServerMetrics::WriteServing(MetricsText& text, const std::string& prefix) const {
  const std::lock_guard lock(mutex_);
  text.Family(prefix + "admission_rejections_total", "counter", "Requests refused, by why");
  for (const char* reason : {"queue_full", "loading", "draining"}) {
    const auto found = rejections_.find(reason);
    text.Sample(found == rejections_.end() ? 0 : static_cast<double>(found->second),
                {{"reason", reason}});
  }
  const auto write = [&](const char* name, const char* help, uint64_t KeyCounts::* field) {
    text.Family(prefix + name, "counter", help);
    for (const auto& [key, counts] : keys_) {
      text.Sample(static_cast<double>(counts.*field), {{"key", key}});
    }
  };
  write("key_requests_total", "Answered generations by API key", &KeyCounts::requests);
  write("key_prompt_tokens_total", "Prompt tokens by API key", &KeyCounts::prompt_tokens);
  write("key_generation_tokens_total", "Generated tokens by API key",
        &KeyCounts::generation_tokens);
}

std::string ServerMetrics::Page(const std::string& prefix, const std::string& model_name,
                                const LlmEngine* engine) const {
  MetricsText of_process({});
  WriteProcess(of_process);
  WriteHttp(of_process);
  MetricsText of_model({{"model_name", model_name}, {"engine", "0"}});
  WriteServing(of_model, prefix);
  if (engine != nullptr) {
    WriteStats(of_model, prefix, engine->stats());
    WriteEngineMetrics(of_model, prefix, engine->metrics());
  }
  return of_process.Take() + of_model.Take();
}

}  // namespace gale::server
