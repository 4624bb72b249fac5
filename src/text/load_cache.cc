#include "text/load_cache.h"

#include <array>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

namespace gale::text {
namespace {

// Changes with the arrays and with what makes them: hashes, order, sizes.
constexpr uint64_t kVersion = 0x31'6B'6F'74'65'6C'61'67;  // "galetok1"
constexpr size_t kMinSourceBytes = 1 << 20;

struct Header {
  uint64_t version;
  uint64_t num_bytes;  ///< behind the header
  uint64_t checksum;
};

std::optional<std::filesystem::path> Directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string_view(value == nullptr ? "" : value);
  };
  if (variable("GALE_TOKENIZER_CACHE") == "off") return std::nullopt;
  if (const auto xdg = variable("XDG_CACHE_HOME"); xdg.starts_with('/')) {
    return std::filesystem::path(xdg) / "gale";
  }
  if (const auto home = variable("HOME"); home.starts_with('/')) {
    return std::filesystem::path(home) / ".cache" / "gale";
  }
  return std::nullopt;
}

}  // namespace

bool CacheReader::ReadBytes(void* to, uint64_t num_bytes) {
  if (num_bytes > left_) return false;
  auto* bytes = static_cast<char*>(to);
  if (!file_.read(bytes, static_cast<std::streamsize>(num_bytes))) return false;
  hash_.Update({bytes, num_bytes});
  left_ -= num_bytes;
  return true;
}

std::optional<LoadCache> LoadCache::For(std::string_view source) {
  if (source.size() < kMinSourceBytes) return std::nullopt;
  const auto directory = Directory();
  if (!directory) return std::nullopt;
  const auto [low, high] = HashBytes128(source);
  return LoadCache(*directory / fmt::format("{:016x}{:016x}.tokenizer", high, low));
}

std::optional<CacheReader> LoadCache::Open() const {
  std::ifstream file(path_, std::ios::binary);
  Header header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof(header))) return std::nullopt;
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path_, error);
  if (error || header.version != kVersion || size - sizeof(header) != header.num_bytes) {
    return std::nullopt;
  }
  return CacheReader(std::move(file), header.num_bytes, header.checksum);
}

void LoadCache::Store(const CacheWriter& writer) const {
  StreamHash hash;
  hash.Update(writer.bytes());
  const Header header{kVersion, writer.bytes().size(), hash.Digest()};
  std::error_code error;
  std::filesystem::create_directories(path_.parent_path(), error);
  std::filesystem::path temporary = path_;
  temporary += fmt::format(".{}", getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&header), sizeof(header));
    file.write(writer.bytes().data(), static_cast<std::streamsize>(writer.bytes().size()));
    file.close();
    if (file.good()) std::filesystem::rename(temporary, path_, error);
  }
  std::filesystem::remove(temporary, error);
}

}  // namespace gale::text
