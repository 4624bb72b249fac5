#include "text/load_cache.h"

#include <cstdlib>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <unistd.h>

#include "text/hash.h"

namespace gale::text {
namespace {

// Changes with the arrays and with what makes them: hashes, order, sizes.
constexpr uint64_t kVersion = 0x32'6B'6F'74'65'6C'61'67;  // "galetok2"
constexpr size_t kMinSourceBytes = 1 << 20;

struct Header {
  uint64_t version;
  uint64_t num_bytes;  ///< behind the header
  uint64_t checksum;
};
static_assert(sizeof(Header) % kCacheAlignment == 0);

}  // namespace

std::optional<std::string_view> CacheReader::NextArray(size_t element_size) {
  uint64_t num_bytes = 0;
  if (left_.size() < sizeof(num_bytes)) return std::nullopt;
  std::memcpy(&num_bytes, left_.data(), sizeof(num_bytes));
  left_.remove_prefix(sizeof(num_bytes));
  if (num_bytes > left_.size() || num_bytes % element_size != 0) return std::nullopt;
  const std::string_view bytes = left_.substr(0, num_bytes);
  left_.remove_prefix(std::min(left_.size(), num_bytes + -num_bytes % kCacheAlignment));
  return bytes;
}

std::optional<std::filesystem::path> LoadCache::Folder() {
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

std::optional<LoadCache> LoadCache::For(std::string_view source) {
  if (source.size() < kMinSourceBytes) return std::nullopt;
  const auto folder = Folder();
  if (!folder) return std::nullopt;
  const auto [low, high] = HashBytes128(source);
  return LoadCache(*folder / fmt::format("{:016x}{:016x}.tokenizer", high, low));
}

std::optional<CacheReader> LoadCache::Open() const {
  auto file = MappedFile::Open(path_.string());
  Header header{};
  if (!file || file->text().size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, file->text().data(), sizeof(header));
  const std::string_view arrays = file->text().substr(sizeof(header));
  if (header.version != kVersion || header.num_bytes != arrays.size() ||
      header.checksum != HashBytes(arrays)) {
    return std::nullopt;
  }
  return CacheReader(std::make_shared<const MappedFile>(*std::move(file)), arrays);
}

void LoadCache::Store(const CacheWriter& writer) const {
  const Header header{kVersion, writer.bytes().size(), HashBytes(writer.bytes())};
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
