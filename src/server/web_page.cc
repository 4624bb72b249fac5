#include "server/web_page.h"

#include <algorithm>

#include "server/api_error.h"
#include "server/embedded_files.h"

namespace gale::server {
namespace {

/// Nothing from elsewhere, nothing inline: what a model writes can never run.
constexpr const char* kContentSecurityPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const char* ContentType(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  return "application/json";
}

}  // namespace

void ServeWebFile(HttpExchange& exchange) {
  const std::string_view path = exchange.request().path;
  const std::string_view name =
      path == "/" ? "index.html" : path.substr(path.find_last_of('/') + 1);
  const auto files = EmbeddedFiles();
  const auto found = std::ranges::find(files, name, &EmbeddedFile::name);
  if (found == files.end()) {
    exchange.Send(ErrorResponse({.status = 404, .message = "There is no such file"}));
    return;
  }
  exchange.Send({.body = std::string(found->bytes),
                 .content_type = ContentType(name),
                 .headers = {{"Content-Security-Policy", kContentSecurityPolicy},
                             {"X-Content-Type-Options", "nosniff"},
                             {"Referrer-Policy", "no-referrer"},
                             {"Cache-Control", "no-cache"}}});
}

}  // namespace gale::server
