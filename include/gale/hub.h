// Downloads models of the Hugging Face hub into the cache that the hub's own tools keep, where
// EngineConfig::model finds them by name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gale/status.h"

namespace gale {

struct PullOptions {
  std::string model;      ///< ORG/NAME or ORG/NAME@REVISION
  std::string gguf_file;  ///< this file of the repository, with its other shards, in place of the
                          ///< safetensors checkpoint; empty: the checkpoint
};

struct PulledModel {
  std::string path;                ///< the snapshot's folder, or the GGUF file in it
  std::string commit;              ///< that the revision stands for
  std::vector<std::string> files;  ///< of the snapshot, by name
  uint64_t total_bytes = 0;        ///< of these files
  uint64_t downloaded_bytes = 0;   ///< in this call
};

/// Called with the bytes that are there and those of all files.
using PullProgress = std::function<void(uint64_t, uint64_t)>;

/// Fetches what of the model is not in the cache yet. A file appears under its name only when it is
/// whole and its checksum is right; what a broken transfer left is gone on with by the next call.
/// Honours HF_ENDPOINT, HF_TOKEN, and the variables that name the cache (see ResolveModel).
/// Errors: kInvalidArgument for a name that is none; kNotFound and kUnsupported for what the hub
/// refuses; kResourceExhausted for a full disk; kDataCorrupt for a checksum; kUnsupported where
/// Gale was built without libcurl.
Result<PulledModel> PullModel(const PullOptions& options, const PullProgress& progress = {});

}  // namespace gale
