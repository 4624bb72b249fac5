#include "server/api_error.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace gale::server {
namespace {

namespace json = boost::json;

json::value TextOrNull(const std::string& text) {
  return text.empty() ? json::value(nullptr) : json::value(text);
}

}  // namespace

ApiError InvalidField(std::string param, std::string message) {
  return {.message = std::move(message), .param = std::move(param)};
}

ApiError Unsupported(std::string param, std::string message) {
  return {
      .message = std::move(message), .code = "unsupported_parameter", .param = std::move(param)};
}

ApiError Unavailable(std::string message) {
  return {.status = 503,
          .message = std::move(message),
          .type = "server_error",
          .code = "engine_overloaded"};
}

ApiError FromEngine(const Error& error, bool was_queued) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnsupported:
    case ErrorCode::kNotFound: return {.message = error.message};
    case ErrorCode::kResourceExhausted:
      if (was_queued) return {.message = error.message};  // it alone is too large: no retry helps
      return {.status = 429,
              .message = error.message,
              .type = "rate_limit_error",
              .code = "rate_limit_exceeded"};
    case ErrorCode::kDeadlineExceeded:
      return {.status = 408, .message = error.message, .code = "deadline_exceeded"};
    case ErrorCode::kCancelled: return Unavailable("The server is shutting down; try again");
    case ErrorCode::kDataCorrupt:
    case ErrorCode::kDevice:
    case ErrorCode::kInternal: break;
  }
  return {.status = 500, .message = error.message, .type = "server_error"};
}

std::string ErrorBody(const ApiError& error) {
  json::object body = {{"message", error.message},
                       {"type", error.type},
                       {"param", TextOrNull(error.param)},
                       {"code", TextOrNull(error.code)}};
  if (error.prompt_and_context_tokens) {
    body["n_prompt_tokens"] = error.prompt_and_context_tokens->first;
    body["n_ctx"] = error.prompt_and_context_tokens->second;
  }
  return json::serialize(json::object{{"error", std::move(body)}});
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = ErrorBody(error)};
  if (error.status == 429 || error.status == 503) {
    response.headers.emplace_back("Retry-After", "1");
  }
  // Clients try a 408 again, but this one's time is up.
  if (error.code == "deadline_exceeded") response.headers.emplace_back("X-Should-Retry", "false");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace gale::server
