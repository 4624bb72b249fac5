#include "quantize/whole_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace gale {

WholeFile::WholeFile(std::string path) : path_(std::move(path)), part_(path_ + ".part") {
  file_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

WholeFile::~WholeFile() {
  if (file_ >= 0) close(file_);
  unlink(part_.c_str());
}

Status WholeFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = file_ < 0 ? -1 : write(file_, bytes.data(), bytes.size());
    if (written < 0 && file_ >= 0 && errno == EINTR) continue;
    if (written < 0) return Failed();
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status WholeFile::Finish() {
  if (file_ < 0 || fsync(file_) != 0 || rename(part_.c_str(), path_.c_str()) != 0) return Failed();
  return {};
}

tl::unexpected<Error> WholeFile::Failed() const {
  const bool is_full = errno == ENOSPC || errno == EDQUOT;
  return MakeError(
      is_full ? ErrorCode::kResourceExhausted : ErrorCode::kInternal,
      fmt::format("cannot write {}: {}{}", path_, std::strerror(errno),
                  is_full ? "; the same command goes on from here once there is room" : ""));
}

}  // namespace gale
