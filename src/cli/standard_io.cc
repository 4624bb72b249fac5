#include "cli/standard_io.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

namespace gale::cli {
namespace {

constexpr size_t kReadBytes = 1 << 16;

std::string ErrnoText() { return std::strerror(errno); }

}  // namespace

Status PrepareStandardStreams() {
  // A file opened later must not become descriptor 0 or 2 and be read or written as such.
  for (const int fd : {STDIN_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) == -1) open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  if (fcntl(STDOUT_FILENO, F_GETFD) == -1) {
    return MakeError(ErrorCode::kInvalidArgument, "standard output is closed");
  }
  // Some parents (Python among them) start their children with SIGPIPE ignored.
  std::signal(SIGPIPE, SIG_DFL);
  return {};
}

Status WriteOut(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return MakeError(ErrorCode::kResourceExhausted,
                       fmt::format("cannot write to standard output: {}", ErrnoText()));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

std::string InputName(const std::string& path) { return path == "-" ? "standard input" : path; }

Result<std::string> ReadFile(const std::string& path) {
  const bool is_stdin = path == "-";
  const int fd = is_stdin ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("cannot read {}: {}", InputName(path), ErrnoText()));
  }
  std::string text;
  std::array<char, kReadBytes> chunk;
  ssize_t count = 0;
  while ((count = read(fd, chunk.data(), chunk.size())) != 0) {
    if (count > 0) {
      text.append(chunk.data(), static_cast<size_t>(count));
    } else if (errno != EINTR) {
      break;
    }
  }
  const std::string reason = count < 0 ? ErrnoText() : "";
  if (!is_stdin) close(fd);
  if (!reason.empty()) {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("cannot read {}: {}", InputName(path), reason));
  }
  return text;
}

std::optional<std::string> LineReader::Next(int interrupt_fd, bool& interrupted) {
  interrupted = false;
  while (true) {
    if (const size_t end = pending_.find('\n'); end != std::string::npos) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return line;
    }
    if (at_end_) {
      if (pending_.empty()) return std::nullopt;
      return std::exchange(pending_, {});
    }
    std::array<pollfd, 2> sources = {pollfd{STDIN_FILENO, POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
    if (poll(sources.data(), sources.size(), -1) < 0) continue;
    if (sources[1].revents != 0) {
      interrupted = true;
      pending_.clear();
      return std::nullopt;
    }
    std::array<char, kReadBytes> chunk;
    const ssize_t count = read(STDIN_FILENO, chunk.data(), chunk.size());
    if (count > 0) {
      pending_.append(chunk.data(), static_cast<size_t>(count));
    } else if (count == 0 || errno != EINTR) {
      at_end_ = true;
    }
  }
}

}  // namespace gale::cli
