// Who may ask: API keys and the web origins that browsers may call from. Layer L6. Thread-safe.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "gale/status.h"
#include "server/http_exchange.h"

namespace gale::server {

struct AccessConfig {
  std::vector<std::string> keys;  ///< no keys and no file: everybody may ask
  std::string key_file;  ///< lines KEY or NAME KEY, "#" begins a comment; read again by Reload
  std::vector<std::string> allowed_origins;  ///< of CORS; "*" for all
};

class AccessControl {
 public:
  /// Errors: kNotFound for the key file, kDataCorrupt for a file without a key.
  static Result<std::unique_ptr<AccessControl>> Create(AccessConfig config);
  /// Reads the key file again; on an error the keys stay.
  Status Reload();

  /// The name of the key that the request brings, "" when none is needed; nothing: it is refused.
  /// Cost and time do not depend on how much of a wrong key is right.
  std::optional<std::string> Admit(const HttpRequest& request) const;
  /// Adds CORS's headers if the request comes from an allowed origin.
  void AddCorsHeaders(HttpExchange& exchange) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    std::string name;  ///< in metrics: the file's, or "key1", "key2", ...
    Digest digest;
  };

  explicit AccessControl(AccessConfig config) : config_(std::move(config)) {}
  static Digest DigestOf(std::string_view key);

  const AccessConfig config_;
  mutable std::mutex mutex_;
  std::vector<Key> keys_;
};

}  // namespace gale::server
