// Listens, keeps the connections and runs the one I/O thread. Layer L6; knows HTTP and nothing of
// models.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gale/status.h"
#include "server/connection.h"

namespace gale::server {

struct HttpServerConfig {
  std::string host = "127.0.0.1";  ///< an address to listen on, or a name that has one
  int port = 8000;                 ///< 0: any free one
  std::string tls_certificate;     ///< PEM files; both or none
  std::string tls_key;
  bool access_log = true;                ///< one line a request to standard error; never a body
  std::chrono::milliseconds sweep{250};  ///< how often the limits' times are looked at
  HttpLimits limits;
};

class HttpServer final : public ConnectionOwner {
 public:
  /// Called on the I/O thread, which they must not hold up.
  struct Hooks {
    std::function<void(const std::shared_ptr<HttpExchange>&)> handle;
    std::function<HttpResponse(int status, std::string message)> refusal;
    std::function<void(HttpExchange&, double seconds, int status)> finished;
    std::function<void(int signal)> on_signal;  ///< SIGTERM, SIGINT, SIGHUP
  };

  /// Binds and starts the I/O thread. Errors: kResourceExhausted when the port is taken,
  /// kInvalidArgument for an address that is none, and those of LoadTlsContext.
  static Result<std::unique_ptr<HttpServer>> Listen(HttpServerConfig config, Hooks hooks);
  ~HttpServer() override;

  int port() const { return port_; }
  /// Reads the certificate again; connections that stand keep the old one.
  Status ReloadTls();
  /// From now on connections close behind their answer, and those without a request at once.
  void Drain();
  /// Waits until no request is being answered. False: that took longer than `timeout`.
  bool WaitUntilIdle(std::chrono::duration<double> timeout);
  /// Ends the I/O thread and every connection; answers that have not ended are cut off.
  void Stop();

  const HttpLimits& limits() const override { return config_.limits; }
  bool draining() const override { return draining_; }
  void Handle(const std::shared_ptr<HttpExchange>& exchange) override;
  HttpResponse Refusal(int status, std::string message) override;
  void Finished(HttpExchange& exchange, double seconds, bool gone) override;
  void Wake(std::shared_ptr<Connection> connection) override;
  void Closed(Connection& connection) override;

 private:
  HttpServer(HttpServerConfig config, Hooks hooks);
  Status Bind();
  void Accept();
  void AwaitSignal();
  void SweepLater();
  void FlushWoken();

  const HttpServerConfig config_;
  const Hooks hooks_;
  int port_ = 0;
  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  boost::asio::signal_set signals_{io_};
  boost::asio::steady_timer sweep_timer_{io_};
  std::atomic<bool> draining_ = false;
  bool accept_failed_ = false;

  std::mutex tls_mutex_;
  Transport::TlsContext tls_;

  std::mutex woken_mutex_;
  std::vector<std::shared_ptr<Connection>> woken_;  ///< with news; a flush has been posted

  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;  ///< I/O thread
  std::mutex active_mutex_;
  std::condition_variable idle_;
  int num_active_ = 0;  ///< requests without an end

  std::thread thread_;
};

}  // namespace gale::server
