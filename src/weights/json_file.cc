#include "weights/json_file.h"

#include <fmt/format.h>

#include "base/status_macros.h"

namespace gale {

Result<MappedFile> OpenJsonFile(const std::string& path) {
  constexpr size_t kMaxBytes = 64 << 20;  // the index of a model of a million tensors is about this
  GALE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kMaxBytes) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a JSON file of at most {} bytes, got {}", path,
                                 kMaxBytes, file.bytes().size()));
  }
  return file;
}

}  // namespace gale
