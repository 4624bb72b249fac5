// Opens the small JSON files of a checkpoint, so that a weight file named by mistake is not parsed.
#pragma once

#include <string>

#include "base/mapped_file.h"
#include "gale/status.h"

namespace gale {

/// Errors: those of MappedFile::Open; kDataCorrupt over 64 MiB.
Result<MappedFile> OpenJsonFile(const std::string& path);

}  // namespace gale
