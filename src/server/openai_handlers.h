// The routes of the API: each takes an exchange and sees to it that it is answered. Layer L6; stop
// 1 of the request path.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/thread_pool.hpp>
#include <boost/json/object.hpp>

#include "gale/llm_engine.h"
#include "server/access_control.h"
#include "server/openai_protocol.h"
#include "server/server_metrics.h"

namespace gale::server {

struct ApiConfig {
  std::vector<std::string> model_names;  ///< what requests may call the model; the first is listed
  std::string version;                   ///< of the program
  std::string metrics_prefix = "gale_";  ///< "vllm:" for dashboards made for vLLM
  int text_threads = 2;                  ///< that parse, render templates and tokenize
  double request_timeout_s = 0;          ///< of requests that bring none; 0: none
};

class OpenAiHandlers {
 public:
  OpenAiHandlers(ApiConfig config, const AccessControl& access, ServerMetrics& metrics);
  ~OpenAiHandlers();

  /// Until then every route but /health and /version answers 503.
  void SetEngine(std::shared_ptr<LlmEngine> engine);
  /// In place of the model's own; before SetEngine.
  void SetChatTemplate(std::unique_ptr<ChatTemplate> chat_template) {
    chat_template_ = std::move(chat_template);
  }
  /// No new work; what runs ends.
  void Drain() { draining_ = true; }
  /// Waits until nothing is being prepared.
  void Stop();

  /// On the I/O thread.
  void Handle(const std::shared_ptr<HttpExchange>& exchange);

 private:
  using Exchange = std::shared_ptr<HttpExchange>;
  struct Route;
  static const std::vector<Route>& Routes();

  void Dispatch(const Route& route, const Exchange& exchange);
  static void Refuse(const Exchange& exchange);
  void Health(const Exchange& exchange);
  void Version(const Exchange& exchange);
  void Metrics(const Exchange& exchange);
  void WebFile(const Exchange& exchange);
  void ListModels(const Exchange& exchange);
  void RetrieveModel(const Exchange& exchange);
  void ChatCompletions(const Exchange& exchange);
  void Completions(const Exchange& exchange);
  void Embeddings(const Exchange& exchange);
  void Tokenize(const Exchange& exchange);
  void Detokenize(const Exchange& exchange);

  using Parse = ApiResult<GenerationRequest> (*)(const boost::json::object&, const SamplingParams&);
  void Generate(const Exchange& exchange, Parse parse);
  ApiResult<void> CheckModel(const std::string& name) const;
  void LimitTime(float& timeout_s) const;
  ApiError TooLong(int num_tokens, int num_generated, const char* field) const;
  ApiResult<void> FitMaxTokens(GenerationRequest& request, size_t longest_prompt) const;
  ApiResult<std::vector<TokenId>> RenderChat(const std::string& messages_json,
                                             const ChatOptions& options) const;
  boost::json::object ModelJson() const;
  std::shared_ptr<LlmEngine> engine() const { return std::atomic_load(&engine_); }

  const ApiConfig config_;
  const AccessControl& access_;
  ServerMetrics& metrics_;
  const int64_t created_;
  std::unique_ptr<ChatTemplate> chat_template_;  ///< null: the model's own
  std::shared_ptr<LlmEngine> engine_;
  std::atomic<bool> draining_ = false;
  std::atomic<int> num_preparing_ = 0;  ///< generation requests on the text pool
  std::atomic<uint64_t> next_answer_ = 0;
  boost::asio::thread_pool text_pool_;
};

}  // namespace gale::server
