// The checksums by which the hub names its files. Layer L2; used by blob.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace gale {

/// Which one a blob's name is, by its length: 64 hexadecimal digits are the SHA-256 of a file in
/// Git LFS; 40 are Git's own name of it, SHA-1 over "blob SIZE\0" and the file.
enum class DigestKind { kNone, kGitSha1, kSha256 };
DigestKind FindDigestKind(std::string_view blob_name);

/// Computed as bytes come.
class Digest {
 public:
  /// `file_bytes` is the size of the whole file.
  Digest(DigestKind kind, uint64_t file_bytes);
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  ~Digest();
  void Update(std::span<const std::byte> bytes);
  std::string Hex();  ///< ends it; lower case, "" for kNone

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace gale
