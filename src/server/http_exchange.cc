#include "server/http_exchange.h"

#include <array>
#include <charconv>
#include <ctime>

#include <fmt/format.h>

namespace gale::server {
namespace {

std::string_view Reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Payload Too Large";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Status";
  }
}

/// Now, as HTTP spells it: "Fri, 20 Nov 2026 13:45:00 GMT".
std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  gmtime_r(&now, &utc);
  std::array<char, 40> text;
  return {text.data(), std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

HttpExchange::HttpExchange(HttpRequest request, std::function<void()> wake)
    : request_(std::move(request)), wake_(std::move(wake)), keep_alive_(request_.keep_alive) {}

void HttpExchange::AddHeader(std::string name, std::string value) {
  const std::lock_guard lock(mutex_);
  added_headers_.emplace_back(std::move(name), std::move(value));
}

bool HttpExchange::Send(const HttpResponse& response) {
  std::unique_lock lock(mutex_);
  if (status_ != 0) return false;
  AppendHead(response, /*is_stream=*/false);
  if (request_.method != "HEAD") outbox_ += response.body;
  body_bytes_ = response.body.size();
  ended_ = true;
  Wake(std::move(lock));
  return true;
}

void HttpExchange::ExpectStream(HttpResponse head) {
  const std::lock_guard lock(mutex_);
  stream_head_ = std::move(head);
  expects_stream_ = true;
}

void HttpExchange::Write(std::string_view bytes) {
  std::unique_lock lock(mutex_);
  if (ended_ || gone_ || bytes.empty()) return;
  AppendStreamBytes(bytes);
  Wake(std::move(lock));
}

void HttpExchange::AppendStreamBytes(std::string_view bytes) {
  if (status_ == 0) AppendHead(stream_head_, /*is_stream=*/true);
  body_bytes_ += bytes.size();
  if (request_.http_1_0) {
    outbox_ += bytes;
    return;
  }
  std::array<char, 16> size;
  const auto end = std::to_chars(size.data(), size.data() + size.size(), bytes.size(), 16).ptr;
  outbox_.append(size.data(), end).append("\r\n").append(bytes).append("\r\n");
}

void HttpExchange::End() {
  std::unique_lock lock(mutex_);
  if (ended_ || gone_) return;
  if (status_ == 0) AppendHead(stream_head_, /*is_stream=*/true);
  if (!request_.http_1_0) outbox_ += "0\r\n\r\n";
  ended_ = true;
  on_gone_ = nullptr;
  Wake(std::move(lock));
}

void HttpExchange::OnGone(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!gone_) {
      if (!ended_) on_gone_ = std::move(callback);
      return;
    }
  }
  callback();
}

void HttpExchange::AppendHead(const HttpResponse& response, bool is_stream) {
  status_ = response.status;
  if (request_.http_1_0 && is_stream) keep_alive_ = false;  // the end of the body is that of all
  auto out = std::back_inserter(outbox_);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\nServer: gale\r\nDate: {}\r\nX-Request-Id: {}\r\n",
                 response.status, Reason(response.status), HttpDate(), request_.id);
  if (!response.content_type.empty()) {
    fmt::format_to(out, "Content-Type: {}\r\n", response.content_type);
  }
  if (!is_stream) {
    fmt::format_to(out, "Content-Length: {}\r\n", response.body.size());
  } else if (!request_.http_1_0) {
    outbox_ += "Transfer-Encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    outbox_ += "Connection: close\r\n";
  } else if (request_.http_1_0) {
    outbox_ += "Connection: keep-alive\r\n";
  }
  const auto append = [&out](const std::vector<HttpHeader>& headers) {
    for (const auto& [name, value] : headers) fmt::format_to(out, "{}: {}\r\n", name, value);
  };
  append(response.headers);
  append(added_headers_);
  outbox_ += "\r\n";
}

/// Tells the connection, once until it takes what there is.
void HttpExchange::Wake(std::unique_lock<std::mutex> lock) {
  const bool first = !std::exchange(woken_, true);
  lock.unlock();
  if (first) wake_();
}

HttpExchange::Output HttpExchange::Take() {
  const std::lock_guard lock(mutex_);
  woken_ = false;
  return {std::exchange(outbox_, {}), ended_};
}

void HttpExchange::Ping() {
  std::unique_lock lock(mutex_);
  if (!expects_stream_ || ended_ || gone_) return;
  AppendStreamBytes(": ping\n\n");
  Wake(std::move(lock));
}

void HttpExchange::Gone() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    callback = std::exchange(on_gone_, nullptr);
  }
  if (callback) callback();
}

void HttpExchange::DontKeepAlive() {
  const std::lock_guard lock(mutex_);
  keep_alive_ = false;
}

bool HttpExchange::keep_alive() {
  const std::lock_guard lock(mutex_);
  return keep_alive_;
}

int HttpExchange::status() {
  const std::lock_guard lock(mutex_);
  return status_;
}

uint64_t HttpExchange::body_bytes() {
  const std::lock_guard lock(mutex_);
  return body_bytes_;
}

}  // namespace gale::server
