// The HTTP server over real sockets, with limits short enough to be met.
#include "server/http_server.h"

#include <chrono>
#include <future>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace gale::server {
namespace {

using std::chrono::milliseconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class Client {
 public:
  explicit Client(int port, int receive_buffer = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) {
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    const timeval timeout = {.tv_sec = 20, .tv_usec = 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Client() { Close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Send(const std::string& text) {
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  /// What comes until `end` does, or the connection closes.
  std::string ReadUntil(const std::string& end) {
    std::string text;
    char byte = 0;
    while ((end.empty() || !text.ends_with(end)) && ::recv(socket_, &byte, 1, 0) == 1) text += byte;
    return text;
  }
  std::string ReadAll() { return ReadUntil(""); }
  void HalfClose() { ::shutdown(socket_, SHUT_WR); }
  void Close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

 private:
  int socket_;
};

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    config_.port = 0;
    config_.access_log = false;
    config_.sweep = milliseconds(10);
  }

  int Listen() {
    auto server = HttpServer::Listen(
        config_,
        {.handle = [this](const std::shared_ptr<HttpExchange>& exchange) { Handle(exchange); },
         .refusal =
             [](int status, std::string message) {
               return HttpResponse{.status = status, .body = std::move(message)};
             },
         .finished = [this](HttpExchange&, double, int status) { last_status_ = status; },
         .on_signal = {}});
    EXPECT_TRUE(server.has_value()) << server.error().message;
    server_ = *std::move(server);
    return server_->port();
  }

  void Handle(const std::shared_ptr<HttpExchange>& exchange) {
    if (exchange->request().path == "/stream") {
      exchange->ExpectStream({.content_type = "text/event-stream"});
      exchange->OnGone([this] { gone_.set_value(); });
      exchange_.set_value(exchange);
    } else {
      exchange->Send({.body = exchange->request().path + exchange->request().body});
    }
  }

  std::shared_ptr<HttpExchange> Exchange() { return exchange_.get_future().get(); }
  bool IsGone() {
    return gone_.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  }

  HttpServerConfig config_;
  std::promise<std::shared_ptr<HttpExchange>> exchange_;
  std::promise<void> gone_;
  std::atomic<int> last_status_ = 0;
  std::unique_ptr<HttpServer> server_;
};

constexpr const char* kStream = "GET /stream HTTP/1.1\r\n\r\n";

TEST_F(HttpServerTest, BodiesInPiecesAndInChunks) {
  Client client(Listen());
  client.Send("POST /a%2Fb?q=1 HTTP/1.1\r\nContent-Length: 6\r\n\r\nhel");
  client.Send("lo!");
  EXPECT_THAT(client.ReadUntil("hello!"), EndsWith("\r\n\r\n/a/bhello!"));
  client.Send("POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nab");
  client.Send("c\r\n2;x=y\r\nde\r\n0\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), EndsWith("\r\n\r\n/cabcde"));
}

TEST_F(HttpServerTest, EveryByteAlone) {
  Client client(Listen());
  for (const char c : std::string("\r\nPOST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nok")) {
    client.Send({c});
  }
  EXPECT_THAT(client.ReadUntil("/xok"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(HttpServerTest, SlowHeadersAndBodiesAreGivenUp) {
  config_.limits.header = config_.limits.body = milliseconds(50);
  const int port = Listen();
  Client slow_header(port);
  slow_header.Send("GET / HTTP/1.1\r\nA: b");
  EXPECT_THAT(slow_header.ReadAll(), StartsWith("HTTP/1.1 408 "));
  Client slow_body(port);
  slow_body.Send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_THAT(slow_body.ReadAll(), StartsWith("HTTP/1.1 408 "));
  Client silent(port);
  EXPECT_THAT(silent.ReadAll(), IsEmpty());
}

TEST_F(HttpServerTest, IdleConnectionsAreClosed) {
  config_.limits.idle = milliseconds(50);
  Client client(Listen());
  client.Send("GET /x HTTP/1.1\r\n\r\n");
  EXPECT_THAT(client.ReadAll(), EndsWith("/x"));
}

TEST_F(HttpServerTest, StreamsAreChunkedAndPinged) {
  config_.limits.ping = milliseconds(30);
  Client client(Listen());
  client.Send(kStream);
  EXPECT_THAT(client.ReadUntil("ping\n\n\r\n"), EndsWith("\r\n\r\n8\r\n: ping\n\n\r\n"));
  const auto exchange = Exchange();
  EXPECT_FALSE(exchange->Send({.status = 500})) << "a stream has begun";
  exchange->Write("data: x\n\n");
  exchange->End();
  exchange->Write("too late");
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("9\r\ndata: x\n\n\r\n"));
}

TEST_F(HttpServerTest, BeforeAStreamHasBegunAnyStatusCanBeSent) {
  Client client(Listen());
  client.Send(kStream);
  EXPECT_TRUE(Exchange()->Send({.status = 429}));
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), StartsWith("HTTP/1.1 429 "));
}

TEST_F(HttpServerTest, ClientsThatCloseAreNoticed) {
  Client client(Listen());
  client.Send(kStream);
  Exchange()->Write("data: x\n\n");
  client.ReadUntil("x\n\n");
  client.Close();
  EXPECT_TRUE(IsGone());
}

TEST_F(HttpServerTest, HalfClosedConnectionsCountAsClosed) {
  Client client(Listen());
  client.Send(kStream);
  client.HalfClose();
  EXPECT_TRUE(IsGone());
  EXPECT_THAT(client.ReadAll(), IsEmpty());
}

TEST_F(HttpServerTest, ClientsThatDoNotReadAreGivenUp) {
  config_.limits.write = milliseconds(50);
  Client client(Listen(), /*receive_buffer=*/4096);
  client.Send(kStream);
  Exchange()->Write(std::string(32 << 20, 'x'));
  EXPECT_TRUE(IsGone());
  while (last_status_ == 0) std::this_thread::yield();
  EXPECT_EQ(last_status_, 499);
}

TEST_F(HttpServerTest, TooManyConnectionsAreClosed) {
  config_.limits.max_connections = 1;
  const int port = Listen();
  Client first(port);
  first.Send("GET /one HTTP/1.1\r\n\r\n");
  EXPECT_THAT(first.ReadUntil("/one"), EndsWith("/one"));
  Client second(port);
  EXPECT_THAT(second.ReadAll(), IsEmpty());
}

TEST_F(HttpServerTest, DrainingClosesWhatIsIdleAndEndsWhatRuns) {
  const int port = Listen();
  Client idle(port);
  idle.Send("GET /one HTTP/1.1\r\n\r\n");
  idle.ReadUntil("/one");
  Client busy(port);
  busy.Send(kStream);
  const auto exchange = Exchange();
  server_->Drain();
  EXPECT_THAT(idle.ReadAll(), IsEmpty());
  EXPECT_FALSE(server_->WaitUntilIdle(milliseconds(20)));
  exchange->Write("data: last\n\n");
  exchange->End();
  EXPECT_THAT(busy.ReadAll(), EndsWith("data: last\n\n\r\n0\r\n\r\n"));
  EXPECT_TRUE(server_->WaitUntilIdle(std::chrono::seconds(20)));
}

TEST_F(HttpServerTest, StoppingCutsOff) {
  Client client(Listen());
  client.Send(kStream);
  const auto exchange = Exchange();
  server_->Stop();
  EXPECT_TRUE(IsGone());
  exchange->Write("nobody reads this");
  EXPECT_THAT(client.ReadAll(), IsEmpty());
}

TEST_F(HttpServerTest, SmugglingIsRefused) {
  const int port = Listen();
  for (const char* headers : {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                              "Content-Length: 3\r\nContent-Length: 4\r\n",
                              "Content-Length: 3x\r\n", "Content-Length : 3\r\n"}) {
    Client client(port);
    client.Send(std::string("POST / HTTP/1.1\r\n") + headers + "\r\n0\r\n\r\n");
    EXPECT_THAT(client.ReadAll(), StartsWith("HTTP/1.1 400 ")) << headers;
  }
}

}  // namespace
}  // namespace gale::server
