#include "server/access_control.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

namespace gale::server {

Result<std::unique_ptr<AccessControl>> AccessControl::Create(AccessConfig config) {
  std::unique_ptr<AccessControl> access(new AccessControl(std::move(config)));
  if (Status status = access->Reload(); !status) return tl::unexpected(status.error());
  return access;
}

AccessControl::Digest AccessControl::DigestOf(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

Status AccessControl::Reload() {
  std::vector<Key> keys;
  const auto add = [&keys](const std::string& name, const std::string& key) {
    keys.push_back({name.empty() ? fmt::format("key{}", keys.size() + 1) : name, DigestOf(key)});
  };
  for (const std::string& key : config_.keys) add("", key);
  if (!config_.key_file.empty()) {
    std::ifstream file(config_.key_file);
    if (!file) {
      return MakeError(ErrorCode::kNotFound,
                       fmt::format("{}: cannot be read; expected one API key a line, or NAME KEY",
                                   config_.key_file));
    }
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line.substr(0, line.find('#')));
      std::string first;
      std::string second;
      words >> first >> second;
      if (!second.empty()) {
        add(first, second);
      } else if (!first.empty()) {
        add("", first);
      }
    }
    if (keys.empty()) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("{}: expected one API key a line, got none; without any, "
                                   "everybody could ask",
                                   config_.key_file));
    }
  }
  const std::lock_guard lock(mutex_);
  keys_ = std::move(keys);
  return {};
}

std::optional<std::string> AccessControl::Admit(const HttpRequest& request) const {
  const std::lock_guard lock(mutex_);
  if (keys_.empty()) return "";
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view given = request.Header("authorization");
  if (given.starts_with(kBearer)) given.remove_prefix(kBearer.size());
  const Digest digest = DigestOf(given);
  const Key* found = nullptr;
  for (const Key& key : keys_) {  // all of them, whichever it is
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
  }
  return found != nullptr ? std::optional(found->name) : std::nullopt;
}

void AccessControl::AddCorsHeaders(HttpExchange& exchange) const {
  const std::string origin(exchange.request().Header("origin"));
  if (origin.empty()) return;
  const auto& allowed = config_.allowed_origins;
  if (std::ranges::find(allowed, "*") == allowed.end() &&
      std::ranges::find(allowed, origin) == allowed.end()) {
    return;
  }
  exchange.AddHeader("Access-Control-Allow-Origin", origin);
  exchange.AddHeader("Vary", "Origin");
  exchange.AddHeader("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  if (exchange.request().method != "OPTIONS") return;
  exchange.AddHeader("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
  exchange.AddHeader("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id");
  exchange.AddHeader("Access-Control-Max-Age", "600");
}

}  // namespace gale::server
