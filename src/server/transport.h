// The bytes of one client: a TCP socket, bare or under TLS. Layer L6; used by Connection alone, on
// the I/O thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>

#include "gale/status.h"

namespace gale::server {

/// Handlers are called on the I/O thread, never from inside the call that takes them. One read and
/// one write may be under way at a time.
class Transport {
 public:
  using Handler = std::function<void(const boost::system::error_code&, size_t num_bytes)>;
  using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

  /// With a null `tls`, a bare socket.
  static std::unique_ptr<Transport> Create(boost::asio::ip::tcp::socket socket, TlsContext tls);

  virtual ~Transport() = default;
  /// Must have ended before anything is read or written.
  virtual void Handshake(Handler done) = 0;
  virtual void ReadSome(boost::asio::mutable_buffer into, Handler done) = 0;
  virtual void WriteAll(boost::asio::const_buffer from, Handler done) = 0;
  /// Nothing more will be written; the client sees the end once it has read what was.
  virtual void ShutdownSend() = 0;
  virtual void Close() = 0;  ///< handlers under way are called with an error
};

/// A context with this certificate chain and private key, both PEM files.
/// Errors: kNotFound, kDataCorrupt with OpenSSL's reason.
Result<Transport::TlsContext> LoadTlsContext(const std::string& certificate_file,
                                             const std::string& key_file);

}  // namespace gale::server
