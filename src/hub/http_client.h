// HTTP and HTTPS requests over libcurl, one after the other on one connection where the server
// allows it. Layer L2; used by hub_repository.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "gale/status.h"

namespace gale {

struct HttpResponse {
  int status = 0;  ///< 200
  /// Of the last response, names in lower case.
  std::map<std::string, std::string> headers;
  std::string location;  ///< where a redirect that was not followed leads, absolute

  /// The value, or "" when there is none.
  std::string Header(const std::string& name) const;
};

class HttpClient {
 public:
  using Sink = std::function<Status(std::span<const std::byte>)>;
  /// Called once, before the first byte of the body, with its status and headers.
  using OnResponse = std::function<Status(const HttpResponse&)>;

  /// `token`, unless empty, goes to the hosts that are asked, never to those that they redirect to.
  explicit HttpClient(std::string token);
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;
  ~HttpClient();

  /// Headers only; follows no redirect.
  Result<HttpResponse> Head(const std::string& url);
  /// The whole body, at most 64 MiB, redirects followed.
  Result<HttpResponse> Get(const std::string& url, std::string& body);
  /// The body from byte `offset` on, redirects followed. What the sinks return ends the transfer.
  /// Errors: kNotFound when the connection fails or breaks off; those of the sinks.
  Result<HttpResponse> Download(const std::string& url, uint64_t offset,
                                const OnResponse& on_response, const Sink& sink);

 private:
  struct Handle;
  struct Transfer;
  Result<HttpResponse> Perform(const std::string& url, Transfer& transfer);

  std::string token_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace gale
