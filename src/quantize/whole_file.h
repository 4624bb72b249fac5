// A file that appears under its name once all of it is on the disk; until then it is NAME.part.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "gale/status.h"

namespace gale {

class WholeFile {
 public:
  explicit WholeFile(std::string path);
  ~WholeFile();  ///< what was not finished goes away
  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;

  /// Errors: kResourceExhausted (disk full); kInternal for other failures to write.
  Status Write(std::span<const std::byte> bytes);
  Status Finish();

 private:
  tl::unexpected<Error> Failed() const;

  std::string path_;
  std::string part_;
  int file_;
};

}  // namespace gale
