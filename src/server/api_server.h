// The whole server: HTTP, access and handlers around one engine. Layer L6; `gale serve` runs it.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "gale/llm_engine.h"
#include "server/access_control.h"
#include "server/http_server.h"
#include "server/openai_handlers.h"

namespace gale::server {

struct ServerConfig {
  HttpServerConfig http;
  AccessConfig access;
  ApiConfig api;
  double drain_timeout_s = 60;  ///< for running requests to end, after SIGTERM
};

class ApiServer {
 public:
  /// Listens at once; until Open, /health says that the model is loading. A signal ends the
  /// process while nothing else can have begun. Errors: those of HttpServer::Listen and
  /// AccessControl.
  static Result<std::unique_ptr<ApiServer>> Start(ServerConfig config);

  int port() const { return http_->port(); }
  /// From now on requests are answered. `chat_template` goes before the model's own.
  void Open(std::unique_ptr<LlmEngine> engine, std::unique_ptr<ChatTemplate> chat_template = {});
  /// Waits for SIGTERM or SIGINT, then lets what runs end; a second signal cuts it off. SIGHUP
  /// reads keys and certificates again. Errors: kCancelled when requests were cut off.
  Status ServeUntilSignal();

 private:
  explicit ApiServer(ServerConfig config) : config_(std::move(config)) {}
  void OnSignal(int signal);
  bool Drain();

  const ServerConfig config_;
  std::unique_ptr<AccessControl> access_;
  ServerMetrics metrics_;
  std::unique_ptr<OpenAiHandlers> handlers_;
  std::mutex mutex_;
  std::condition_variable signalled_;
  bool serving_ = false;
  int num_stop_signals_ = 0;
  std::unique_ptr<HttpServer> http_;  ///< first to go: its thread calls the others
};

}  // namespace gale::server
