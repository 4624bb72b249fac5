#include "hub/hub_repository.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"

namespace gale {
namespace {

constexpr int kMaxRedirects = 10;

/// For one component of a URL's path, or with `keep` "/" for several.
std::string Escaped(std::string_view text, std::string_view keep) {
  std::string escaped;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (is_plain || keep.find(c) != std::string_view::npos) {
      escaped += c;
    } else {
      escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

/// A file's name comes from the hub and becomes a path of this machine.
bool IsSafePath(std::string_view path) {
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string_view::npos) {
      return false;
    }
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

/// `W/"abc"` is abc.
std::string EntityTag(std::string_view header) {
  if (header.starts_with("W/")) header.remove_prefix(2);
  if (header.size() >= 2 && header.front() == '"' && header.back() == '"') {
    header = header.substr(1, header.size() - 2);
  }
  return std::string(header);
}

bool IsRedirect(int status) { return status >= 300 && status < 400; }

/// "https://host:port"
std::string_view HostOf(std::string_view url) {
  const size_t scheme = url.find("://");
  return scheme == std::string_view::npos ? url : url.substr(0, url.find('/', scheme + 3));
}

}  // namespace

tl::unexpected<Error> HubRepository::Unreachable(const std::string& reason) const {
  return MakeError(ErrorCode::kNotFound,
                   fmt::format("cannot reach {}: {}. Check the connection, https_proxy and "
                               "HF_ENDPOINT; what has been downloaded is kept",
                               endpoint_, reason));
}

tl::unexpected<Error> HubRepository::NoHub(const std::string& what) const {
  return MakeError(ErrorCode::kDataCorrupt,
                   fmt::format("{}: {}; is there a Hugging Face hub at that address (HF_ENDPOINT)?",
                               endpoint_, what));
}

Status HubRepository::CheckAnswer(const HttpResponse& response, const std::string& name) const {
  if (response.status >= 200 && response.status < 400) return {};
  const auto refuse = [&](ErrorCode code, const std::string& why) {
    return MakeError(code, fmt::format("{}: {}", model_.repository, why));
  };
  const std::string cause = response.Header("x-error-code");
  switch (response.status) {
    case 401:
      return refuse(ErrorCode::kUnsupported,
                    has_token_
                        ? fmt::format("{} refuses the token: set HF_TOKEN to a valid one "
                                      "(from {}/settings/tokens)",
                                      endpoint_, endpoint_)
                        : fmt::format("{} knows no such public model: check its name, or set "
                                      "HF_TOKEN if it is private or gated (a token is made "
                                      "at {}/settings/tokens)",
                                      endpoint_, endpoint_));
    case 403:
      return refuse(ErrorCode::kUnsupported,
                    fmt::format("access is not granted: accept the model's terms at {} and set "
                                "HF_TOKEN to a token of that account",
                                WebPage()));
    case 404:
      if (cause == "RevisionNotFound") {
        return refuse(
            ErrorCode::kNotFound,
            fmt::format("no revision \"{}\"; {}/tree/main lists them", model_.revision, WebPage()));
      }
      return refuse(ErrorCode::kNotFound, name.empty()
                                              ? fmt::format("no such model at {}", endpoint_)
                                              : fmt::format("no file {} at {}", name, WebPage()));
    case 429: {
      const std::string wait = response.Header("retry-after");  // seconds, or a date
      const bool is_count = !wait.empty() && wait.find_first_not_of("0123456789") == wait.npos;
      return refuse(ErrorCode::kResourceExhausted,
                    fmt::format("{} got too many requests: run this again {}; what has been "
                                "downloaded is kept",
                                endpoint_, is_count ? "in " + wait + " seconds" : "later"));
    }
    default:
      return refuse(ErrorCode::kNotFound,
                    fmt::format("{} answered with status {}: run this again later; what has been "
                                "downloaded is kept",
                                endpoint_, response.status));
  }
}

Result<HubListing> HubRepository::List() {
  const std::string url = fmt::format("{}/api/models/{}/revision/{}", endpoint_, model_.repository,
                                      Escaped(model_.revision, ""));
  std::string body;
  const Result<HttpResponse> response = client_.Get(url, body);
  if (!response) return Unreachable(response.error().message);
  GALE_RETURN_IF_ERROR(CheckAnswer(*response, ""));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(body, url));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue commit, root.Get("sha"));
  GALE_ASSIGN_OR_RETURN(const JsonValue siblings, root.Get("siblings"));
  HubListing listing;
  GALE_ASSIGN_OR_RETURN(listing.commit, commit.String());
  if (!IsSafePath(listing.commit) || listing.commit.find('/') != std::string::npos) {
    return tl::unexpected(commit.Wrong("a commit"));
  }
  GALE_RETURN_IF_ERROR(siblings.ForEachItem([&](const JsonValue& item) -> Status {
    GALE_ASSIGN_OR_RETURN(const JsonObject sibling, item.Object());
    GALE_ASSIGN_OR_RETURN(const JsonValue name, sibling.Get("rfilename"));
    GALE_ASSIGN_OR_RETURN(const std::string_view path, name.String());
    if (!IsSafePath(path)) return tl::unexpected(name.Wrong("a path below the model's folder"));
    listing.files.emplace_back(path);
    return {};
  }));
  return listing;
}

Result<HubFile> HubRepository::Describe(const std::string& commit, const std::string& name) {
  HubFile file;
  file.name = name;
  file.url =
      fmt::format("{}/{}/resolve/{}/{}", endpoint_, model_.repository, commit, Escaped(name, "/"));
  HttpResponse response;
  std::string url = file.url;
  // The hub answers for itself, also where it sends the reader elsewhere for the bytes; only a
  // redirect on its own host (a renamed repository) is to be asked in its place.
  for (int i = 0; i < kMaxRedirects; ++i) {
    Result<HttpResponse> answer = client_.Head(url);
    if (!answer) return Unreachable(answer.error().message);
    response = *std::move(answer);
    GALE_RETURN_IF_ERROR(CheckAnswer(response, name));
    const bool goes_on = IsRedirect(response.status) && response.Header("x-linked-etag").empty() &&
                         HostOf(response.location) == HostOf(url);
    if (!goes_on) break;
    url = response.location;
  }
  if (response.Header("x-repo-commit") != commit) {
    return NoHub(fmt::format("expected {} of commit {}, got it of commit \"{}\"", name, commit,
                             response.Header("x-repo-commit")));
  }
  const std::string linked = response.Header("x-linked-etag");
  file.blob = EntityTag(linked.empty() ? response.Header("etag") : linked);
  if (!IsSafePath(file.blob) || file.blob.find('/') != std::string::npos) {
    return NoHub(fmt::format("expected an entity tag for {}, got \"{}\"", name, file.blob));
  }
  std::string size = response.Header("x-linked-size");
  if (size.empty() && !IsRedirect(response.status)) size = response.Header("content-length");
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), file.bytes);
  if (size.empty() || error != std::errc() || end != size.data() + size.size()) {
    return NoHub(fmt::format("expected the size of {}, got \"{}\"", name, size));
  }
  return file;
}

}  // namespace gale
