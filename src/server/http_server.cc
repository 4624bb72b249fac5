#include "server/http_server.h"

#include <csignal>
#include <ctime>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <pthread.h>

namespace gale::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr int kClientClosedRequest = 499;  ///< in logs and metrics only, as nginx has it

std::string PeerName(const tcp::socket& socket) {
  boost::system::error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  return error ? "?" : fmt::format("{}:{}", peer.address().to_string(), peer.port());
}

/// Small writes go out at once, and peers that have vanished without a word are found.
void SetOptions(tcp::socket& socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&socket](int option, int value) {
    setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof(value));
  };
  set(TCP_KEEPIDLE, 60);  // seconds
  set(TCP_KEEPINTVL, 10);
  set(TCP_KEEPCNT, 3);
}

}  // namespace

HttpServer::HttpServer(HttpServerConfig config, Hooks hooks)
    : config_(std::move(config)), hooks_(std::move(hooks)) {}

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(HttpServerConfig config, Hooks hooks) {
  std::unique_ptr<HttpServer> server(new HttpServer(std::move(config), std::move(hooks)));
  if (Status status = server->ReloadTls(); !status) return tl::unexpected(status.error());
  if (Status status = server->Bind(); !status) return tl::unexpected(status.error());
  if (server->hooks_.on_signal) {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) server->signals_.add(signal);
    server->AwaitSignal();
  }
  server->Accept();
  server->SweepLater();
  server->thread_ = std::thread([&io = server->io_] {
    pthread_setname_np(pthread_self(), "gale-http");
    io.run();
  });
  return server;
}

HttpServer::~HttpServer() { Stop(); }

void HttpServer::Stop() {
  io_.stop();
  if (thread_.joinable()) thread_.join();
  while (!connections_.empty()) {
    const std::shared_ptr<Connection> connection = connections_.begin()->second;
    connection->Close();
  }
}

Status HttpServer::Bind() {
  boost::system::error_code error;
  tcp::resolver resolver(io_);
  const auto found =
      resolver.resolve(config_.host, std::to_string(config_.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("--host {}: expected an address of this machine, got: {}",
                                 config_.host, error.message()));
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return MakeError(ErrorCode::kResourceExhausted,
                     fmt::format("cannot listen on {} port {}: {}; choose another with --port",
                                 config_.host, config_.port, error.message()));
  }
  port_ = acceptor_.local_endpoint().port();
  return {};
}

Status HttpServer::ReloadTls() {
  if (config_.tls_certificate.empty()) return {};
  auto loaded = LoadTlsContext(config_.tls_certificate, config_.tls_key);
  if (!loaded) return tl::unexpected(loaded.error());
  const std::lock_guard lock(tls_mutex_);
  tls_ = *std::move(loaded);
  return {};
}

void HttpServer::Accept() {
  acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {
      accept_failed_ = true;  // out of descriptors; some may be free by the next sweep
      return;
    }
    if (connections_.size() < config_.limits.max_connections) {
      SetOptions(socket);
      std::string peer = PeerName(socket);
      Transport::TlsContext tls;
      {
        const std::lock_guard lock(tls_mutex_);
        tls = tls_;
      }
      const auto connection = std::make_shared<Connection>(
          *this, Transport::Create(std::move(socket), std::move(tls)), std::move(peer));
      connections_.emplace(connection.get(), connection);
      connection->Start();
    }
    Accept();
  });
}

void HttpServer::AwaitSignal() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    hooks_.on_signal(signal);
    AwaitSignal();
  });
}

void HttpServer::SweepLater() {
  sweep_timer_.expires_after(config_.sweep);
  sweep_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const Clock::time_point now = Clock::now();
    std::vector<std::shared_ptr<Connection>> connections;
    connections.reserve(connections_.size());
    for (const auto& [key, connection] : connections_) connections.push_back(connection);
    for (const auto& connection : connections) connection->Sweep(now);
    if (std::exchange(accept_failed_, false)) Accept();
    SweepLater();
  });
}

void HttpServer::Wake(std::shared_ptr<Connection> connection) {
  bool first = false;
  {
    const std::lock_guard lock(woken_mutex_);
    first = woken_.empty();
    woken_.push_back(std::move(connection));
  }
  if (first) asio::post(io_, [this] { FlushWoken(); });
}

void HttpServer::FlushWoken() {
  std::vector<std::shared_ptr<Connection>> woken;
  {
    const std::lock_guard lock(woken_mutex_);
    woken.swap(woken_);
  }
  for (const auto& connection : woken) connection->OnNews();
}

void HttpServer::Handle(const std::shared_ptr<HttpExchange>& exchange) {
  {
    const std::lock_guard lock(active_mutex_);
    ++num_active_;
  }
  hooks_.handle(exchange);
}

HttpResponse HttpServer::Refusal(int status, std::string message) {
  const std::lock_guard lock(active_mutex_);
  ++num_active_;
  return hooks_.refusal(status, std::move(message));
}

void HttpServer::Finished(HttpExchange& exchange, double seconds, bool gone) {
  const int status = gone ? kClientClosedRequest : exchange.status();
  if (hooks_.finished) hooks_.finished(exchange, seconds, status);
  if (config_.access_log) {
    const HttpRequest& request = exchange.request();
    fmt::print(stderr, "{:%Y-%m-%dT%H:%M:%SZ} {} {} {} {} {}B {:.3f}s {}\n",
               fmt::gmtime(std::time(nullptr)), request.peer,
               request.method.empty() ? "-" : request.method,
               request.path.empty() ? "-" : request.path, status, exchange.body_bytes(), seconds,
               request.id);
  }
  const std::lock_guard lock(active_mutex_);
  if (--num_active_ == 0) idle_.notify_all();
}

void HttpServer::Closed(Connection& connection) { connections_.erase(&connection); }

void HttpServer::Drain() { draining_ = true; }

bool HttpServer::WaitUntilIdle(std::chrono::duration<double> timeout) {
  std::unique_lock lock(active_mutex_);
  return idle_.wait_for(lock, timeout, [this] { return num_active_ == 0; });
}

}  // namespace gale::server
