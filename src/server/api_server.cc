#include "server/api_server.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

namespace gale::server {

namespace {

/// Labels are of a known few, whatever clients send.
void CountRequest(const HttpExchange& exchange, double seconds, int status,
                  ServerMetrics& metrics) {
  static constexpr std::array<std::string_view, 4> kMethods = {"GET", "POST", "HEAD", "OPTIONS"};
  const std::string& method = exchange.request().method;
  const bool known = std::ranges::find(kMethods, method) != kMethods.end();
  metrics.CountRequest(exchange.route().empty() ? "other" : exchange.route(),
                       known ? method : "other", status, seconds);
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::Start(ServerConfig config) {
  std::unique_ptr<ApiServer> server(new ApiServer(std::move(config)));
  auto access = AccessControl::Create(server->config_.access);
  if (!access) return tl::unexpected(access.error());
  server->access_ = *std::move(access);
  server->handlers_ =
      std::make_unique<OpenAiHandlers>(server->config_.api, *server->access_, server->metrics_);

  OpenAiHandlers& handlers = *server->handlers_;
  auto http = HttpServer::Listen(
      server->config_.http,
      {.handle = [&handlers](const auto& exchange) { handlers.Handle(exchange); },
       .refusal =
           [](int status, std::string message) {
             return ErrorResponse({.status = status, .message = std::move(message)});
           },
       .finished = [&metrics = server->metrics_](
                       HttpExchange& exchange, double seconds,
                       int status) { CountRequest(exchange, seconds, status, metrics); },
       .on_signal = [self = server.get()](int signal) { self->OnSignal(signal); }});
  if (!http) return tl::unexpected(http.error());
  server->http_ = *std::move(http);
  return server;
}

void ApiServer::OnSignal(int signal) {
  const std::lock_guard lock(mutex_);
  if (signal == SIGHUP) {
    if (!serving_) return;
    for (const Status& status : {access_->Reload(), http_->ReloadTls()}) {
      if (!status) fmt::print(stderr, "gale: SIGHUP: {}\n", status.error().message);
    }
    return;
  }
  if (!serving_) std::_Exit(128 + signal);
  ++num_stop_signals_;
  signalled_.notify_all();
}

void ApiServer::Open(std::unique_ptr<LlmEngine> engine,
                     std::unique_ptr<ChatTemplate> chat_template) {
  handlers_->SetChatTemplate(std::move(chat_template));
  handlers_->SetEngine(std::move(engine));
  const std::lock_guard lock(mutex_);
  serving_ = true;
}

Status ApiServer::ServeUntilSignal() {
  {
    std::unique_lock lock(mutex_);
    signalled_.wait(lock, [this] { return num_stop_signals_ > 0; });
  }
  const bool drained = Drain();
  handlers_->Stop();
  http_->Stop();
  handlers_->SetEngine(nullptr);
  if (drained) return {};
  return MakeError(ErrorCode::kCancelled, "requests that were running have been cut off");
}

/// False: some requests had not ended in time, or were not waited for.
bool ApiServer::Drain() {
  constexpr std::chrono::milliseconds kLook{50};
  const auto end = Clock::now() + std::chrono::duration<double>(config_.drain_timeout_s);
  handlers_->Drain();
  http_->Drain();
  while (!http_->WaitUntilIdle(kLook)) {
    const std::lock_guard lock(mutex_);
    if (num_stop_signals_ > 1 || Clock::now() > end) return false;
  }
  return true;
}

}  // namespace gale::server
