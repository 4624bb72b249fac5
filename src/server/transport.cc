#include "server/transport.h"

#include <utility>

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

namespace gale::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(tcp::socket socket) : socket_(std::move(socket)) {}

  void Handshake(Handler done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done({}, 0); });
  }
  void ReadSome(asio::mutable_buffer into, Handler done) override {
    socket_.async_read_some(into, std::move(done));
  }
  void WriteAll(asio::const_buffer from, Handler done) override {
    asio::async_write(socket_, from, std::move(done));
  }
  void ShutdownSend() override {
    boost::system::error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
  void Close() override {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }

 private:
  tcp::socket socket_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(tcp::socket socket, TlsContext context)
      : context_(std::move(context)), stream_(std::move(socket), *context_) {}

  void Handshake(Handler done) override {
    stream_.async_handshake(
        asio::ssl::stream_base::server,
        [done = std::move(done)](const boost::system::error_code& error) { done(error, 0); });
  }
  void ReadSome(asio::mutable_buffer into, Handler done) override {
    stream_.async_read_some(into, std::move(done));
  }
  void WriteAll(asio::const_buffer from, Handler done) override {
    asio::async_write(stream_, from, std::move(done));
  }
  /// Every body says its own length, so that TLS's own farewell is not waited for.
  void ShutdownSend() override {
    boost::system::error_code ignored;
    stream_.next_layer().shutdown(tcp::socket::shutdown_send, ignored);
  }
  void Close() override {
    boost::system::error_code ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  TlsContext context_;  ///< the one that was current when the client came
  asio::ssl::stream<tcp::socket> stream_;
};

}  // namespace

std::unique_ptr<Transport> Transport::Create(tcp::socket socket, TlsContext tls) {
  if (tls == nullptr) return std::make_unique<PlainTransport>(std::move(socket));
  return std::make_unique<TlsTransport>(std::move(socket), std::move(tls));
}

Result<Transport::TlsContext> LoadTlsContext(const std::string& certificate_file,
                                             const std::string& key_file) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1);
  boost::system::error_code error;
  context->use_certificate_chain_file(certificate_file, error);
  if (error) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a PEM file with a certificate chain, got: {}",
                                 certificate_file, error.message()));
  }
  context->use_private_key_file(key_file, asio::ssl::context::pem, error);
  if (error) {
    return MakeError(
        ErrorCode::kDataCorrupt,
        fmt::format("{}: expected a PEM file with the private key of {}'s certificate, got: {}",
                    key_file, certificate_file, error.message()));
  }
  return context;
}

}  // namespace gale::server
