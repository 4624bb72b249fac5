// A read-only memory-mapped file: how weights, tokenizers and configurations enter the process.
// Layer L0. The mapping is shared with the page cache, so several processes hold one copy.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "gale/status.h"

namespace gale {

/// Move-only; the bytes stay at one address until the object that holds the mapping dies.
class MappedFile {
 public:
  /// Errors: kNotFound when there is no such file; kInvalidArgument when it is not a regular file
  /// or may not be read. An empty file maps to no bytes.
  static Result<MappedFile> Open(const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    MappedFile(std::move(other)).swap(*this);
    return *this;
  }
  ~MappedFile();
  void swap(MappedFile& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_), size_}; }
  std::string_view text() const { return {static_cast<const char*>(data_), size_}; }

  /// Asks the kernel to read [offset, offset + length) ahead of use.
  void Prefetch(size_t offset, size_t length) const;

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace gale
