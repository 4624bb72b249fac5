// One file's download: gone on with where an earlier try broke off, checked, then given its name.
// Layer L2; used by pull.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "gale/status.h"
#include "hub/hub_repository.h"

namespace gale {

/// Bytes of `file` that a broken download left at `path`.
uint64_t PartialBytes(const HubFile& file, const std::filesystem::path& path);

/// Makes `path` the whole file. What comes is written to PATH.incomplete, which an error leaves
/// there unless its checksum is wrong; a transfer that breaks off is resumed as long as each try
/// brings something. `progress` is called with the bytes that are there.
/// Errors: those of HubRepository; kDataCorrupt for size or checksum; kResourceExhausted when the
/// disk is full or another process downloads the same file.
Status DownloadBlob(HttpClient& client, const HubRepository& repository, const HubFile& file,
                    const std::filesystem::path& path,
                    const std::function<void(uint64_t)>& progress);

}  // namespace gale
