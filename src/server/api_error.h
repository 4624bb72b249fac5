// What went wrong with an API request, as OpenAI's clients understand it. Layer L6.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "gale/status.h"
#include "server/http_exchange.h"

namespace gale::server {

struct ApiError {
  int status = 400;
  std::string message = {};
  std::string type = "invalid_request_error";
  std::string code = {};   ///< "" is null
  std::string param = {};  ///< the field at fault; "" is null
  /// Of a prompt that does not fit: its tokens and the context's, for clients that shorten it.
  std::optional<std::pair<int, int>> prompt_and_context_tokens = {};
};

template <class T>
using ApiResult = tl::expected<T, ApiError>;

/// A field that has a wrong type or value.
ApiError InvalidField(std::string param, std::string message);
/// Something that clients may ask for and this server cannot do.
ApiError Unsupported(std::string param, std::string message);
/// The server cannot take requests now: 503 and Retry-After.
ApiError Unavailable(std::string message);
/// An engine's error: 400 for what fails again, 429 for a full queue, 500 for the engine's faults.
ApiError FromEngine(const Error& error, bool was_queued);

/// {"error": {...}}, on one line.
std::string ErrorBody(const ApiError& error);
HttpResponse ErrorResponse(const ApiError& error);

}  // namespace gale::server
