#include "hub/http_client.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include <curl/curl.h>
#include <fmt/format.h>

namespace gale {
namespace {

constexpr size_t kMaxBodyBytes = size_t{64} << 20;
constexpr long kConnectTimeoutS = 20;
constexpr long kStallTimeoutS = 60;  // without a byte
constexpr long kMaxRedirects = 10;

std::string_view Trimmed(std::string_view text) {
  const auto is_space = [](unsigned char c) { return std::isspace(c) != 0; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string HttpResponse::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Handle {
  CURL* curl = curl_easy_init();
  ~Handle() { curl_easy_cleanup(curl); }
};

/// One request: what libcurl's callbacks see.
struct HttpClient::Transfer {
  CURL* curl = nullptr;
  bool head = false;
  uint64_t offset = 0;
  OnResponse on_response;
  Sink sink;
  HttpResponse response;
  bool has_begun = false;  ///< the body
  Status status;           ///< of the sinks

  Status Begin() {
    has_begun = true;
    long code = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    response.status = static_cast<int>(code);
    return on_response ? on_response(response) : Status();
  }

  static size_t OnHeader(const char* data, size_t size, size_t count, void* self) {
    auto& headers = static_cast<Transfer*>(self)->response.headers;
    const std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) headers.clear();  // the answer to a redirected request
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return std::tolower(c); });
      headers[name] = Trimmed(line.substr(colon + 1));
    }
    return line.size();
  }

  /// Anything but the number of bytes given makes libcurl end the transfer.
  static size_t OnBody(const char* data, size_t size, size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (!transfer.has_begun) transfer.status = transfer.Begin();
    if (transfer.status) {
      transfer.status = transfer.sink(std::as_bytes(std::span(data, size * count)));
    }
    return transfer.status ? size * count : 0;
  }
};

HttpClient::HttpClient(std::string token)
    : token_(std::move(token)), handle_(std::make_unique<Handle>()) {}
HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::Perform(const std::string& url, Transfer& transfer) {
  CURL* curl = handle_->curl;
  if (curl == nullptr) return MakeError(ErrorCode::kInternal, "libcurl cannot be started");
  transfer.curl = curl;
  std::array<char, CURL_ERROR_SIZE> reason = {};
  curl_easy_reset(curl);  // keeps the connection
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason.data());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "gale");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectTimeoutS);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStallTimeoutS);
  curl_easy_setopt(curl, CURLOPT_NOBODY, transfer.head ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, transfer.head ? 0L : 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kMaxRedirects);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  const std::string range = fmt::format("{}-", transfer.offset);
  if (transfer.offset > 0) curl_easy_setopt(curl, CURLOPT_RANGE, range.c_str());
  // libcurl drops this header when a redirect leaves the host (CURLOPT_UNRESTRICTED_AUTH is off).
  curl_slist* headers = nullptr;
  if (!token_.empty()) {
    headers = curl_slist_append(headers, ("Authorization: Bearer " + token_).c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  }
  const CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  if (!transfer.status) return tl::unexpected(transfer.status.error());
  if (code != CURLE_OK) {
    const char* why = reason[0] != '\0' ? reason.data() : curl_easy_strerror(code);
    return MakeError(ErrorCode::kNotFound, why);
  }
  if (!transfer.has_begun) {  // an answer without a body
    if (const Status status = transfer.Begin(); !status) return tl::unexpected(status.error());
  }
  const char* location = nullptr;
  curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &location);
  if (location != nullptr) transfer.response.location = location;
  return std::move(transfer.response);
}

Result<HttpResponse> HttpClient::Head(const std::string& url) {
  Transfer transfer;
  transfer.head = true;
  return Perform(url, transfer);
}

Result<HttpResponse> HttpClient::Get(const std::string& url, std::string& body) {
  Transfer transfer;
  body.clear();
  transfer.sink = [&body](std::span<const std::byte> bytes) -> Status {
    if (body.size() + bytes.size() > kMaxBodyBytes) {
      return MakeError(ErrorCode::kDataCorrupt, "expected at most 64 MiB, got more");
    }
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  };
  return Perform(url, transfer);
}

Result<HttpResponse> HttpClient::Download(const std::string& url, uint64_t offset,
                                          const OnResponse& on_response, const Sink& sink) {
  Transfer transfer;
  transfer.offset = offset;
  transfer.on_response = on_response;
  transfer.sink = sink;
  return Perform(url, transfer);
}

}  // namespace gale
