// Tokenizers as they stand in memory, kept between runs in the user's cache directory: reading
// these arrays takes a tenth of the time of parsing tokenizer.json. Used by Tokenizer::FromFolder.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "text/hash.h"

namespace gale::text {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

/// Collects arrays of numbers in the order in which CacheReader gives them back.
class CacheWriter {
 public:
  template <class Array>
  void Add(const Array& array) {
    using T = typename Array::value_type;
    static_assert(std::has_unique_object_representations_v<T>);
    const uint64_t num_bytes = array.size() * sizeof(T);
    bytes_.append(reinterpret_cast<const char*>(&num_bytes), sizeof(num_bytes));
    bytes_.append(reinterpret_cast<const char*>(array.data()), num_bytes);
  }
  std::string_view bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Reads what a CacheWriter has collected. What it gives is only known to be as long as the file
/// says until Verify() holds, and even then its users check the values they index with.
class CacheReader {
 public:
  CacheReader(std::ifstream file, uint64_t size, uint64_t checksum)
      : file_(std::move(file)), left_(size), checksum_(checksum) {}

  template <class Array>
  [[nodiscard]] bool Read(Array* array) {
    using T = typename Array::value_type;
    uint64_t num_bytes = 0;
    if (!ReadBytes(&num_bytes, sizeof(num_bytes))) return false;
    if (num_bytes > left_ || num_bytes % sizeof(T) != 0) return false;
    array->resize(num_bytes / sizeof(T));
    return ReadBytes(array->data(), num_bytes);
  }
  /// Whether everything has been read and is as it was written.
  bool Verify() const { return left_ == 0 && hash_.Digest() == checksum_; }

 private:
  bool ReadBytes(void* to, uint64_t num_bytes);

  std::ifstream file_;
  uint64_t left_;  ///< bytes
  uint64_t checksum_;
  StreamHash hash_;
};

/// The place of one tokenizer in the cache. It is named after a hash of the source's content, so
/// that it cannot be out of date.
class LoadCache {
 public:
  /// Nothing when the source is so small that parsing it is fast, when there is no cache directory
  /// ($XDG_CACHE_HOME/gale or ~/.cache/gale), or when GALE_TOKENIZER_CACHE is "off".
  static std::optional<LoadCache> For(std::string_view source);

  /// Nothing when the file is absent, of another version or shorter than it says.
  std::optional<CacheReader> Open() const;
  /// Replaces the file in one step. A cache that cannot be written is no error.
  void Store(const CacheWriter& writer) const;

 private:
  explicit LoadCache(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

}  // namespace gale::text
