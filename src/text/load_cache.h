// Tokenizers as they stand in memory, kept between runs in the user's cache directory: mapping
// these arrays takes a tenth of the time of parsing tokenizer.json, and processes share them. Used
// by Tokenizer::FromFolder.
#pragma once

#include <bit>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "text/table_array.h"

namespace gale::text {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

/// Every array begins at a multiple of this, so that it can be used where it is mapped.
inline constexpr size_t kCacheAlignment = 8;

/// Collects arrays of numbers in the order in which CacheReader gives them back.
class CacheWriter {
 public:
  template <class Array>
  void Add(const Array& array) {
    using T = typename Array::value_type;
    static_assert(std::has_unique_object_representations_v<T> && alignof(T) <= kCacheAlignment);
    const uint64_t num_bytes = array.size() * sizeof(T);
    bytes_.append(reinterpret_cast<const char*>(&num_bytes), sizeof(num_bytes));
    bytes_.append(reinterpret_cast<const char*>(array.data()), num_bytes);
    bytes_.append(-bytes_.size() % kCacheAlignment, '\0');
  }
  std::string_view bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Gives back what a CacheWriter has collected, as parts of the mapped file. The checksum has been
/// right; the tables check the values they index with all the same.
class CacheReader {
 public:
  /// `left` is what the arrays take of `file`.
  CacheReader(std::shared_ptr<const MappedFile> file, std::string_view left)
      : file_(std::move(file)), left_(left) {}

  template <class T>
  [[nodiscard]] bool Read(TableArray<T>* array) {
    const auto bytes = NextArray(sizeof(T));
    if (!bytes) return false;
    *array = {{reinterpret_cast<const T*>(bytes->data()), bytes->size() / sizeof(T)}, file_};
    return true;
  }
  bool AtEnd() const { return left_.empty(); }

 private:
  /// Nothing when the file ends before the array or the array in the midst of an element.
  std::optional<std::string_view> NextArray(size_t element_size);

  std::shared_ptr<const MappedFile> file_;
  std::string_view left_;
};

/// The place of one tokenizer in the cache. It is named after a hash of the source's content, so
/// that it cannot be out of date.
class LoadCache {
 public:
  /// Nothing when the source is so small that parsing it is fast, or when there is no Folder.
  static std::optional<LoadCache> For(std::string_view source);

  /// $XDG_CACHE_HOME/gale or ~/.cache/gale; nothing when neither variable is an absolute path, or
  /// when GALE_TOKENIZER_CACHE is "off".
  static std::optional<std::filesystem::path> Folder();

  /// Nothing when the file is absent, of another version or not as it was written.
  std::optional<CacheReader> Open() const;
  /// Replaces the file in one step, so that what others have mapped stays. A cache that cannot be
  /// written is no error.
  void Store(const CacheWriter& writer) const;

 private:
  explicit LoadCache(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

}  // namespace gale::text
