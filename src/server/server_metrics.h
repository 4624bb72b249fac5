// What the server itself counts, and the page that shows it beside the engine's counts. Layer L6.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "gale/llm_engine.h"
#include "server/metrics_text.h"
#include "server/openai_answer.h"

namespace gale::server {

/// Thread-safe.
class ServerMetrics {
 public:
  void CountRequest(const std::string& route, const std::string& method, int status,
                    double seconds);
  /// `reason`: "queue_full", "loading" or "draining".
  void CountRejection(const std::string& reason);
  void CountTokens(const std::string& key_name, const Usage& usage);

  /// The page of /metrics: vLLM's names behind `prefix` (vLLM's own is "vllm:"), process_* and
  /// http_* as everywhere. Without an engine only these.
  std::string Page(const std::string& prefix, const std::string& model_name,
                   const LlmEngine* engine) const;

 private:
  struct KeyCounts {
    uint64_t requests = 0;
    uint64_t prompt_tokens = 0;
    uint64_t generation_tokens = 0;
  };

  void WriteHttp(MetricsText& text) const;
  void WriteServing(MetricsText& text, const std::string& prefix) const;

  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, uint64_t> requests_;
  std::map<std::string, Histogram> durations_;
  std::map<std::string, uint64_t> rejections_;
  std::map<std::string, KeyCounts> keys_;
};

}  // namespace gale::server
