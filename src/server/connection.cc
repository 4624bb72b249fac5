#include "server/connection.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <fmt/format.h>

namespace gale::server {
namespace {

namespace http = boost::beast::http;

/// A client that sends more than this while its request is being answered is not read any further.
constexpr size_t kMaxPipelinedBytes = 64 << 10;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Nothing when an escape is broken, or the path is not printable ASCII, as all of ours are.
std::optional<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = HexDigit(text[i + 1]);
      const int low = HexDigit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c < ' ' || c > '~') return std::nullopt;
    decoded += c;
  }
  return decoded;
}

/// An id that can stand in a header and in a log line, from one that a client made up.
std::string CleanId(std::string_view given) {
  std::string id;
  for (const char c : given.substr(0, 128)) {
    if (c > ' ' && c < 127) id += c;
  }
  return id;
}

/// Unique enough to find a request in logs; nothing depends on it.
std::string NewRequestId() {
  static std::atomic<uint64_t> count =
      static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  uint64_t id = count.fetch_add(1) * 0x9E3779B97F4A7C15ULL;
  id ^= id >> 29;
  return fmt::format("req_{:016x}", id);
}

}  // namespace

struct Connection::Parser {
  explicit Parser(const HttpLimits& limits) {
    beast.eager(true);
    beast.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
    beast.body_limit(limits.max_body_bytes);
  }
  http::request_parser<http::string_body> beast;
  bool header_done = false;
};

Connection::Connection(ConnectionOwner& owner, std::unique_ptr<Transport> transport,
                       std::string peer)
    : owner_(owner), transport_(std::move(transport)), peer_(std::move(peer)) {}

Connection::~Connection() = default;

void Connection::Start() {
  deadline_ = Clock::now() + owner_.limits().header;
  transport_->Handshake(
      [self = shared_from_this()](const boost::system::error_code& error, size_t) {
        if (error) {
          self->Close();
        } else {
          self->Read();
        }
      });
}

void Connection::Read() {
  if (reading_ || closed_) return;
  reading_ = true;
  transport_->ReadSome(
      boost::asio::buffer(read_buffer_),
      [self = shared_from_this()](const boost::system::error_code& error, size_t num_bytes) {
        self->OnRead(error, num_bytes);
      });
}

void Connection::OnRead(const boost::system::error_code& error, size_t num_bytes) {
  reading_ = false;
  if (closed_) return;
  if (error) {
    Close();
  } else if (lingering_) {
    Read();
  } else {
    input_.append(read_buffer_.data(), num_bytes);
    if (exchange_ == nullptr) {
      ParseInput();
    } else if (input_.size() < kMaxPipelinedBytes) {
      Read();  // to see the client go
    }
  }
}

void Connection::ParseInput() {
  if (parser_ == nullptr) {
    input_.erase(0, input_.find_first_not_of("\r\n"));
    if (input_.empty()) return Read();
    parser_ = std::make_unique<Parser>(owner_.limits());
    deadline_ = Clock::now() + owner_.limits().header;
  }
  auto& beast = parser_->beast;
  boost::beast::error_code error;
  size_t num_parsed = 0;
  for (size_t step = 1; step > 0 && num_parsed < input_.size() && !beast.is_done() && !error;) {
    step = beast.put(boost::asio::buffer(input_.data() + num_parsed, input_.size() - num_parsed),
                     error);
    num_parsed += step;
  }
  input_.erase(0, num_parsed);
  if (error == http::error::body_limit) {
    return Refuse(413, fmt::format("The request body is larger than {} bytes, which is the limit",
                                   owner_.limits().max_body_bytes));
  }
  if (error == http::error::header_limit || input_.size() > owner_.limits().max_header_bytes) {
    return Refuse(431, fmt::format("The request headers are larger than {} bytes, the limit",
                                   owner_.limits().max_header_bytes));
  }
  if (error && error != http::error::need_more) {
    return Refuse(400, fmt::format("This is no HTTP/1.1 request: {}", error.message()));
  }
  if (beast.is_header_done() && !std::exchange(parser_->header_done, true)) {
    deadline_ = Clock::now() + owner_.limits().body;
    if (!beast.is_done() &&
        boost::beast::iequals(beast.get()[http::field::expect], "100-continue")) {
      output_ = "HTTP/1.1 100 Continue\r\n\r\n";
      writing_ = true;
      last_write_ = Clock::now();
      transport_->WriteAll(boost::asio::buffer(output_),
                           [self = shared_from_this()](const boost::system::error_code&, size_t) {
                             self->writing_ = false;
                             self->OnNews();
                           });
    }
  }
  if (beast.is_done()) {
    Dispatch();
  } else {
    Read();
  }
}

void Connection::Dispatch() {
  auto message = parser_->beast.release();
  parser_.reset();
  HttpRequest request;
  request.http_1_0 = message.version() < 11;
  request.keep_alive = message.keep_alive() && !owner_.draining();
  request.method = std::string(message.method_string());
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  const std::string_view target(message.target().data(), message.target().size());
  const size_t question = target.find('?');
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  std::optional<std::string> path = PercentDecode(target.substr(0, question));
  if (!path || !path->starts_with('/')) {
    return Refuse(400, "The request target must be a path such as /v1/models");
  }
  request.path = *std::move(path);
  request.body = std::move(message.body());
  Answer(std::move(request));
  owner_.Handle(exchange_);
  Read();
}

void Connection::Answer(HttpRequest request) {
  request.peer = peer_;
  request.id = CleanId(request.Header("x-request-id"));
  if (request.id.empty()) request.id = NewRequestId();
  exchange_start_ = last_write_ = Clock::now();
  answer_ended_ = false;
  exchange_ = std::make_shared<HttpExchange>(std::move(request),
                                             [&owner = owner_, weak = weak_from_this()] {
                                               if (auto self = weak.lock())
                                                 owner.Wake(std::move(self));
                                             });
}

void Connection::Refuse(int status, std::string message) {
  parser_.reset();
  input_.clear();
  refused_ = true;
  HttpRequest request;
  request.keep_alive = false;
  Answer(std::move(request));
  exchange_->Send(owner_.Refusal(status, std::move(message)));
}

void Connection::OnNews() {
  if (exchange_ == nullptr || writing_ || closed_) return;
  HttpExchange::Output news = exchange_->Take();
  answer_ended_ = news.ended;
  if (news.bytes.empty()) {
    if (answer_ended_) FinishExchange();
    return;
  }
  output_ = std::move(news.bytes);
  writing_ = true;
  last_write_ = Clock::now();
  transport_->WriteAll(boost::asio::buffer(output_),
                       [self = shared_from_this()](const boost::system::error_code& error, size_t) {
                         self->writing_ = false;
                         if (self->closed_) return;
                         if (error) {
                           self->Close();
                         } else if (self->answer_ended_) {
                           self->FinishExchange();
                         } else {
                           self->OnNews();
                         }
                       });
}

void Connection::FinishExchange() {
  const bool keep_alive = exchange_->keep_alive() && !refused_ && !owner_.draining();
  const std::chrono::duration<double> seconds = Clock::now() - exchange_start_;
  owner_.Finished(*exchange_, seconds.count(), /*gone=*/false);
  exchange_.reset();
  if (keep_alive) {
    deadline_ = Clock::now() + owner_.limits().idle;
    return ParseInput();
  }
  // Closing with unread input would reset the connection and could take the answer with it.
  transport_->ShutdownSend();
  lingering_ = true;
  deadline_ = Clock::now() + owner_.limits().linger;
  Read();
}

void Connection::Sweep(Clock::time_point now) {
  const HttpLimits& limits = owner_.limits();
  if (closed_) return;
  if (writing_) {
    if (now - last_write_ > limits.write) Close();
  } else if (exchange_ != nullptr) {
    if (now - last_write_ > limits.ping) {
      last_write_ = now;
      exchange_->Ping();
    }
  } else if (parser_ != nullptr && now > deadline_) {
    Refuse(408, "The request did not arrive in time");
  } else if (now > deadline_ || (owner_.draining() && parser_ == nullptr && !lingering_)) {
    Close();
  }
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  transport_->Close();
  if (exchange_ != nullptr) {
    const std::chrono::duration<double> seconds = Clock::now() - exchange_start_;
    exchange_->Gone();
    owner_.Finished(*exchange_, seconds.count(), /*gone=*/true);
    exchange_.reset();
  }
  owner_.Closed(*this);
}

}  // namespace gale::server
