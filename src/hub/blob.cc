#include "hub/blob.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status_macros.h"
#include "hub/digest.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

/// As huggingface_hub names them, so that either goes on with the other's.
fs::path PartialPath(const fs::path& path) { return path.string() + ".incomplete"; }

tl::unexpected<Error> FileError(const fs::path& path, const char* action) {
  const int number = errno;
  if (number == ENOSPC || number == EDQUOT) {
    return MakeError(ErrorCode::kResourceExhausted,
                     fmt::format("{}: the disk is full. Free some space, or point HF_HUB_CACHE at "
                                 "another disk, and run this again: what has been downloaded is "
                                 "kept",
                                 path.string()));
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(number)));
}

/// The .incomplete file, locked against other processes, with the digest of what is in it.
class PartialFile {
 public:
  PartialFile(const HubFile& file, fs::path path) : file_(file), path_(std::move(path)) {}
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() {
    if (fd_ >= 0) close(fd_);
  }

  uint64_t bytes() const { return bytes_; }

  Status Open() {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return FileError(path_, "be written");
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      return MakeError(
          ErrorCode::kResourceExhausted,
          fmt::format("{}: another process is downloading this file; wait for it", path_.string()));
    }
    std::array<std::byte, 1 << 16> buffer;
    while (bytes_ <= file_.bytes) {
      const ssize_t count = read(fd_, buffer.data(), buffer.size());
      if (count < 0) return FileError(path_, "be read");
      if (count == 0) return {};
      digest_.Update(std::span(buffer.data(), static_cast<size_t>(count)));
      bytes_ += static_cast<uint64_t>(count);
    }
    return Clear();  // more than the file has: of something else
  }

  Status Clear() {
    if (ftruncate(fd_, 0) != 0 || lseek(fd_, 0, SEEK_SET) != 0) {
      return FileError(path_, "be written");
    }
    bytes_ = 0;
    digest_ = Digest(FindDigestKind(file_.blob), file_.bytes);
    return {};
  }

  Status Append(std::span<const std::byte> bytes) {
    if (bytes.size() > file_.bytes - bytes_) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("{}: expected {} bytes, got more", file_.name, file_.bytes));
    }
    digest_.Update(bytes);
    while (!bytes.empty()) {
      const ssize_t count = write(fd_, bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return FileError(path_, "be written");
      bytes = bytes.subspan(static_cast<size_t>(count));
      bytes_ += static_cast<uint64_t>(count);
    }
    return {};
  }

  /// Checks the whole file and gives it its name.
  Status Finish(const fs::path& path) {
    const std::string expected = FindDigestKind(file_.blob) == DigestKind::kNone ? "" : file_.blob;
    if (const std::string got = digest_.Hex(); got != expected) {
      unlink(path_.c_str());
      return MakeError(
          ErrorCode::kDataCorrupt,
          fmt::format("{}: expected checksum {}, got {}; it has been removed, run this "
                      "again to download it afresh",
                      file_.name, expected, got));
    }
    if (fsync(fd_) != 0) return FileError(path_, "be written");
    if (rename(path_.c_str(), path.c_str()) != 0) return FileError(path, "be written");
    return {};
  }

 private:
  const HubFile& file_;
  fs::path path_;
  int fd_ = -1;
  uint64_t bytes_ = 0;
  Digest digest_{FindDigestKind(file_.blob), file_.bytes};
};

/// The first byte that the body brings, or nothing when it is no part of the file that was asked
/// for.
std::optional<uint64_t> FirstByte(const HttpResponse& response) {
  if (response.status == 200) return 0;
  unsigned long long first = 0;
  const std::string range = response.Header("content-range");  // "bytes 100-199/200"
  if (response.status != 206 || std::sscanf(range.c_str(), "bytes %llu-", &first) != 1) return {};
  return first;
}

}  // namespace

uint64_t PartialBytes(const HubFile& file, const fs::path& path) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(PartialPath(path), error);
  return error || bytes > file.bytes ? 0 : bytes;
}

Status DownloadBlob(HttpClient& client, const HubRepository& repository, const HubFile& file,
                    const fs::path& path, const std::function<void(uint64_t)>& progress) {
  PartialFile partial(file, PartialPath(path));
  GALE_RETURN_IF_ERROR(partial.Open());
  while (partial.bytes() < file.bytes) {
    const uint64_t start = partial.bytes();
    Status refused;  // by the hub or the disk, not by the connection
    const auto on_response = [&](const HttpResponse& response) -> Status {
      refused = repository.CheckAnswer(response, file.name);
      if (!refused) return refused;
      const std::optional<uint64_t> first = FirstByte(response);
      if (first == start) return refused;
      if (first == 0) return refused = partial.Clear();
      return refused = MakeError(ErrorCode::kDataCorrupt,
                                 fmt::format("{}: expected its bytes from {} on, got status {}",
                                             file.url, start, response.status));
    };
    const auto sink = [&](std::span<const std::byte> bytes) -> Status {
      refused = partial.Append(bytes);
      progress(partial.bytes());
      return refused;
    };
    const Result<HttpResponse> response = client.Download(file.url, start, on_response, sink);
    if (!refused) return refused;
    if (partial.bytes() > start) continue;
    return repository.Unreachable(fmt::format("{} broke off after {} of {} bytes{}", file.name,
                                              partial.bytes(), file.bytes,
                                              response ? "" : ": " + response.error().message));
  }
  return partial.Finish(path);
}

}  // namespace gale
