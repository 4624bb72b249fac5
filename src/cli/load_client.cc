#include "cli/load_client.h"

#include <chrono>
#include <string_view>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/parse.hpp>
#include <fmt/format.h>

namespace gale::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;
using asio::ip::tcp;
using Clock = std::chrono::steady_clock;

http::request<http::string_body> MakeRequest(const LoadTarget& target, http::verb verb,
                                             const std::string& path, std::string body) {
  http::request<http::string_body> request{verb, path, 11};
  request.set(http::field::host, target.host);
  if (!target.key.empty()) request.set(http::field::authorization, "Bearer " + target.key);
  if (!body.empty()) request.set(http::field::content_type, "application/json");
  request.body() = std::move(body);
  request.prepare_payload();
  return request;
}

/// Has a coroutine's operation leave its error in `error`, not throw it.
auto Into(boost::system::error_code& error) {
  return asio::redirect_error(asio::use_awaitable, error);
}

/// Whether a chunk brings its first choice tokens: as text, of either endpoint, or as ids where the
/// server knows `return_token_ids`.
bool HasTokens(const json::object& chunk) {
  const json::value* choices = chunk.if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return false;
  const json::object* choice = choices->get_array()[0].if_object();
  if (choice == nullptr) return false;
  const json::value* ids = choice->if_contains("token_ids");
  if (ids != nullptr && ids->is_array() && !ids->get_array().empty()) return true;
  const json::value* delta = choice->if_contains("delta");
  const json::value* text = delta != nullptr && delta->is_object()
                                ? delta->get_object().if_contains("content")
                                : choice->if_contains("text");
  return text != nullptr && text->is_string() && !text->get_string().empty();
}

/// One reply's events, as they come.
class ReplyReader {
 public:
  explicit ReplyReader(LoadResult& result) : result_(result) {}

  /// Takes the whole events out of `body`, which came at `now_s`.
  void Take(std::string& body, double now_s) {
    size_t begin = 0;
    for (size_t end; (end = body.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
      TakeEvent(std::string_view(body).substr(begin, end - begin), now_s);
    }
    body.erase(0, begin);
  }

 private:
  void TakeEvent(std::string_view event, double now_s) {
    constexpr std::string_view kData = "data: ";
    if (!event.starts_with(kData) || event.starts_with("data: [DONE]")) return;
    boost::system::error_code error;
    const json::value value = json::parse(event.substr(kData.size()), error);
    if (error || !value.is_object()) {
      result_.error = "an event that is no JSON object";
      return;
    }
    const json::object& chunk = value.get_object();
    if (chunk.contains("error")) result_.error = "an error in the stream";
    if (const json::value* usage = chunk.if_contains("usage"); usage && usage->is_object()) {
      result_.prompt_tokens = usage->get_object().at("prompt_tokens").to_number<int>(error);
      result_.output_tokens = usage->get_object().at("completion_tokens").to_number<int>(error);
    }
    if (HasTokens(chunk)) result_.texts_s.push_back(now_s);
  }

  LoadResult& result_;
};

class LoadRun {
 public:
  LoadRun(const LoadTarget& target, const std::vector<LoadRequest>& requests,
          const LoadOptions& options, tcp::resolver::results_type endpoints,
          std::function<void(size_t)> on_done)
      : target_(target),
        requests_(requests),
        options_(options),
        num_timely_(requests.size() - (options.last_is_late ? 1 : 0)),
        endpoints_(std::move(endpoints)),
        on_done_(std::move(on_done)),
        results_(requests.size()) {}

  void Start(asio::io_context& io) {
    if (options_.concurrency > 0) {
      for (int i = 0; i < options_.concurrency; ++i) asio::co_spawn(io, Work(), asio::detached);
    } else {
      asio::co_spawn(io, StartAtTheirTimes(), asio::detached);
    }
  }
  std::vector<LoadResult> Take() { return std::move(results_); }

 private:
  double Now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  asio::awaitable<void> StartAtTheirTimes() {
    const auto executor = co_await asio::this_coro::executor;
    asio::steady_timer timer(executor);
    for (size_t i = 0; i < num_timely_; ++i) {
      const std::chrono::duration<double> offset(requests_[i].start_s);
      timer.expires_at(start_ + std::chrono::duration_cast<Clock::duration>(offset));
      co_await timer.async_wait(asio::use_awaitable);
      asio::co_spawn(executor, SendAlone(i), asio::detached);
    }
  }

  asio::awaitable<void> SendAlone(size_t index) {
    const auto executor = co_await asio::this_coro::executor;
    beast::tcp_stream stream(executor);
    co_await Send(stream, index);
  }

  /// One of a closed loop's users.
  asio::awaitable<void> Work() {
    const auto executor = co_await asio::this_coro::executor;
    beast::tcp_stream stream(executor);
    while (next_ < num_timely_) {
      const size_t index = next_++;
      co_await Send(stream, index);
    }
  }

  asio::awaitable<void> Send(beast::tcp_stream& stream, size_t index) {
    LoadResult& result = results_[index];
    result.sent_s = Now();
    boost::system::error_code error;
    if (!stream.socket().is_open()) {
      co_await asio::async_connect(stream.socket(), endpoints_, Into(error));
      if (!error) stream.socket().set_option(tcp::no_delay(true), error);
    }
    const LoadRequest& wanted = requests_[index];
    const auto request =
        MakeRequest(target_, http::verb::post, target_.base_path + wanted.path, wanted.body);
    if (!error) co_await http::async_write(stream, request, Into(error));

    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    if (!error) co_await http::async_read_header(stream, buffer, parser, Into(error));
    ReplyReader reader(result);
    const bool ok = !error && parser.get().result_int() == 200;
    while (!error && !parser.is_done()) {
      co_await http::async_read_some(stream, buffer, parser, Into(error));
      const bool had_begun = !result.texts_s.empty();
      if (ok) reader.Take(parser.get().body(), Now());
      if (!had_begun && !result.texts_s.empty()) CountBegun(stream.get_executor());
    }
    result.end_s = Now();
    if (error) {
      result.error = error.message();
    } else if (!ok) {
      result.error = fmt::format("HTTP {}", parser.get().result_int());
    }
    if (error || !parser.get().keep_alive()) stream.close();
    on_done_(++num_done_);
  }

  /// One more streams.
  void CountBegun(const asio::any_io_executor& executor) {
    if (options_.last_is_late && ++num_begun_ == options_.concurrency) {
      asio::co_spawn(executor, SendAlone(requests_.size() - 1), asio::detached);
    }
  }

  const LoadTarget& target_;
  const std::vector<LoadRequest>& requests_;
  const LoadOptions options_;
  const size_t num_timely_;  ///< the requests before the late one
  const tcp::resolver::results_type endpoints_;
  const std::function<void(size_t)> on_done_;
  const Clock::time_point start_ = Clock::now();
  std::vector<LoadResult> results_;
  size_t next_ = 0;
  size_t num_done_ = 0;
  int num_begun_ = 0;
};

Result<tcp::resolver::results_type> Resolve(asio::io_context& io, const LoadTarget& target) {
  boost::system::error_code error;
  tcp::resolver resolver(io);
  auto found = resolver.resolve(target.host, target.port, error);
  tcp::socket probe(io);
  if (!error) asio::connect(probe, found, error);
  if (error) {
    return MakeError(
        ErrorCode::kNotFound,
        fmt::format("http://{}:{} cannot be reached: {}; start a server there, or name "
                    "another with --url",
                    target.host, target.port, error.message()));
  }
  return found;
}

}  // namespace

Result<LoadTarget> LoadTarget::Parse(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  std::string_view rest = url;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  const std::string_view authority = rest.substr(0, rest.find('/'));
  const size_t colon = authority.rfind(':');
  if (!url.starts_with(kScheme) || authority.empty()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("--url: expected http://HOST:PORT, got {}", url));
  }
  LoadTarget target;
  target.host = authority.substr(0, colon);
  target.port = colon == std::string_view::npos ? "80" : authority.substr(colon + 1);
  target.base_path = rest.substr(authority.size());
  while (target.base_path.ends_with('/')) target.base_path.pop_back();
  if (target.base_path.empty()) target.base_path = "/v1";
  return target;
}

Result<std::vector<LoadResult>> RunLoad(const LoadTarget& target,
                                        const std::vector<LoadRequest>& requests,
                                        const LoadOptions& options,
                                        const std::function<void(size_t)>& on_done) {
  asio::io_context io(1);
  auto endpoints = Resolve(io, target);
  if (!endpoints) return tl::unexpected(endpoints.error());
  LoadRun run(target, requests, options, *std::move(endpoints), on_done);
  run.Start(io);
  io.run();
  return run.Take();
}

Result<std::string> FetchText(const LoadTarget& target, const std::string& path) {
  asio::io_context io(1);
  auto endpoints = Resolve(io, target);
  if (!endpoints) return tl::unexpected(endpoints.error());
  beast::tcp_stream stream(io);
  boost::system::error_code error;
  stream.connect(*endpoints, error);
  if (!error) {
    http::write(stream, MakeRequest(target, http::verb::get, target.base_path + path, ""), error);
  }
  beast::flat_buffer buffer;
  http::response<http::string_body> response;
  if (!error) http::read(stream, buffer, response, error);
  if (error || response.result_int() != 200) {
    return MakeError(
        ErrorCode::kNotFound,
        fmt::format("GET {}{}: {}", target.base_path, path,
                    error ? error.message() : fmt::format("HTTP {}", response.result_int())));
  }
  return std::move(response.body());
}

}  // namespace gale::cli
