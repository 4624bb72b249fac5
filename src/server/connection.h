// One client's connection: reads requests, one after the other, and writes their answers. Layer L6;
// lives on the I/O thread, owned by its own outstanding operations and by the HttpServer.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "server/http_exchange.h"
#include "server/transport.h"

namespace gale::server {

using Clock = std::chrono::steady_clock;

struct HttpLimits {
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 32 << 20;
  size_t max_connections = 8192;
  std::chrono::milliseconds header{10'000};  ///< from a request's first byte to the end of its
                                             ///< headers
  std::chrono::milliseconds body{60'000};    ///< from there to the end of its body
  std::chrono::milliseconds idle{75'000};    ///< between requests
  std::chrono::milliseconds write{30'000};   ///< for the client to take what was written at once
  std::chrono::milliseconds ping{15'000};    ///< a stream says something at least so often
  std::chrono::milliseconds linger{2'000};   ///< for a client that is refused to read why
};

class Connection;

/// What a connection asks of its server.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual const HttpLimits& limits() const = 0;
  virtual bool draining() const = 0;
  /// A whole request.
  virtual void Handle(const std::shared_ptr<HttpExchange>& exchange) = 0;
  /// The answer to what is no request, or too large or too slow a one.
  virtual HttpResponse Refusal(int status, std::string message) = 0;
  /// An answer is out, or its client gone.
  virtual void Finished(HttpExchange& exchange, double seconds, bool gone) = 0;
  /// From any thread: the connection's exchange has news.
  virtual void Wake(std::shared_ptr<Connection> connection) = 0;
  virtual void Closed(Connection& connection) = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ConnectionOwner& owner, std::unique_ptr<Transport> transport, std::string peer);
  ~Connection();

  void Start();
  /// Writes what the exchange has to say.
  void OnNews();
  /// Called every now and then: ends what takes too long.
  void Sweep(Clock::time_point now);
  /// The client has gone, or is to go: what it waited for is given up.
  void Close();

 private:
  struct Parser;

  void Read();
  void OnRead(const boost::system::error_code& error, size_t num_bytes);
  void ParseInput();
  void Dispatch();
  void Answer(HttpRequest request);
  void Refuse(int status, std::string message);
  void FinishExchange();

  ConnectionOwner& owner_;
  std::unique_ptr<Transport> transport_;
  const std::string peer_;

  std::array<char, 8192> read_buffer_;
  std::string input_;               ///< received, not parsed
  std::unique_ptr<Parser> parser_;  ///< of the request being received
  std::shared_ptr<HttpExchange> exchange_;
  std::string output_;  ///< being written
  bool answer_ended_ = false;
  bool reading_ = false;
  bool writing_ = false;
  bool refused_ = false;    ///< what follows in the input cannot be trusted
  bool lingering_ = false;  ///< done; waits for the client to close
  bool closed_ = false;
  Clock::time_point deadline_;  ///< while there is no exchange
  Clock::time_point exchange_start_;
  Clock::time_point last_write_;  ///< its start while one is under way
};

}  // namespace gale::server
