// Standard input and output with their errors: a full disk or a closed pipe is reported, never
// ignored.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gale/status.h"

namespace gale::cli {

/// Makes descriptors 0 to 2 safe to use and lets a reader that closes our pipe end us quietly
/// (SIGPIPE), as it does other filters. Errors: kInvalidArgument when standard output is closed.
Status PrepareStandardStreams();

/// Writes all of `text` to standard output at once. Errors: kResourceExhausted with the reason.
Status WriteOut(std::string_view text);

/// What messages call the input `path`: "standard input" for "-".
std::string InputName(const std::string& path);

/// The whole of a file, or of standard input for "-".
Result<std::string> ReadFile(const std::string& path);

/// Lines of standard input, without an input buffer that would hide from poll() what was read.
class LineReader {
 public:
  /// Waits until a line, the end of input (nullopt), or `interrupt_fd` is readable.
  /// `interrupted` says which of the last two it was.
  std::optional<std::string> Next(int interrupt_fd, bool& interrupted);

 private:
  std::string pending_;
  bool at_end_ = false;
};

}  // namespace gale::cli
