// One HTTP request and the answer to it, given from any thread. Layer L6: what handlers see of
// HTTP; a Connection makes one for each request and writes what it holds to the socket.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gale::server {

using HttpHeader = std::pair<std::string, std::string>;

struct HttpRequest {
  std::string method;
  std::string path;   ///< percent-decoded, without the query
  std::string query;  ///< as sent
  std::string body;
  std::string id;                   ///< X-Request-Id as the client gave it, else one of ours
  std::string peer;                 ///< "127.0.0.1:4711"
  std::vector<HttpHeader> headers;  ///< names in lower case
  bool http_1_0 = false;
  bool keep_alive = true;

  /// The first header of this lower-case name, or "".
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string body = {};
  std::string content_type = "application/json";
  std::vector<HttpHeader> headers = {};
};

/// An answer is one Send, or a stream: ExpectStream, Write..., End. Whatever comes after the end,
/// or after the client has gone, is dropped.
class HttpExchange {
 public:
  /// `wake` is called, from the thread that answers, when there is something to Take.
  HttpExchange(HttpRequest request, std::function<void()> wake);

  const HttpRequest& request() const { return request_; }

  /// Adds a header to the answer, whichever it will be.
  void AddHeader(std::string name, std::string value);
  /// The whole answer. False: a stream has begun, so that it is too late for another status.
  bool Send(const HttpResponse& response);
  /// The answer will be a stream with this head, which goes out with its first bytes.
  void ExpectStream(HttpResponse head);
  /// Bytes of the stream. What several calls write before the socket is free goes out at once.
  void Write(std::string_view bytes);
  void End();
  /// Called once, on the I/O thread or at once, if the client goes before the answer has ended.
  void OnGone(std::function<void()> callback);
  /// What to call the request in metrics: the route, not the path. Before it is handed on.
  void SetRoute(std::string_view route) { route_ = route; }
  /// The name of the key that it came with, once that is known. Before it is handed on.
  void SetKeyName(std::string name) { key_name_ = std::move(name); }
  const std::string& route() const { return route_; }
  const std::string& key_name() const { return key_name_; }

  // For the connection, on the I/O thread:
  struct Output {
    std::string bytes;
    bool ended = false;
  };
  Output Take();
  /// Writes a comment if a stream is under way, so that nobody in between gives up on it.
  void Ping();
  void Gone();
  /// Asks the client not to send more over this connection, if the head has not gone out yet.
  void DontKeepAlive();
  bool keep_alive();
  int status();  ///< 0 until there is a head
  uint64_t body_bytes();

 private:
  void AppendHead(const HttpResponse& response, bool is_stream);
  void AppendStreamBytes(std::string_view bytes);
  void Wake(std::unique_lock<std::mutex> lock);

  const HttpRequest request_;
  const std::function<void()> wake_;
  std::string route_;
  std::string key_name_;
  std::mutex mutex_;  ///< of everything below
  std::vector<HttpHeader> added_headers_;
  HttpResponse stream_head_;
  std::string outbox_;
  bool expects_stream_ = false;
  bool keep_alive_;
  bool ended_ = false;
  bool gone_ = false;
  bool woken_ = false;  ///< since the last Take
  int status_ = 0;
  uint64_t body_bytes_ = 0;
  std::function<void()> on_gone_;
};

}  // namespace gale::server
