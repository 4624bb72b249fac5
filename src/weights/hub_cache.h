// Finds a model of the Hugging Face hub in the cache that the hub's tools keep on this machine.
// Nothing is fetched. Layer L2 of the compute column; called where a model's name is resolved.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gale/status.h"

namespace gale {

struct HubModel {
  std::string repository;  ///< "Qwen/Qwen3-0.6B"
  std::string revision;    ///< branch, tag or commit; "main" when none was named
};

/// Reads ORG/NAME and ORG/NAME@REVISION; nullopt when `name` is neither, as paths mostly are.
std::optional<HubModel> ParseHubModel(std::string_view name);

/// Of the hub's tools: HF_HOME, or huggingface/ of XDG_CACHE_HOME or of ~/.cache.
/// Source: huggingface_hub, "Understand caching" and "Environment variables".
std::string HubHomeFolder();
/// HF_HUB_CACHE, or hub/ of HubHomeFolder.
std::string HubCacheFolder();
/// What the cache has of a model: models--ORG--NAME in it.
std::string HubModelFolder(const HubModel& model, const std::string& cache_folder);

/// The folder of the model's files: models--ORG--NAME/snapshots/COMMIT, where refs/REVISION holds
/// the commit unless the revision is one; or the GGUF file there, if that is all there is. Also
/// checks that the download was finished: config.json and, with `needs_weights`, every weight file
/// are there.
/// Errors: kNotFound, with the command that downloads what is missing; kInvalidArgument when one of
/// several GGUF files must be chosen; kDataCorrupt for an index that cannot be read.
Result<std::string> FindSnapshot(const HubModel& model, const std::string& cache_folder,
                                 bool needs_weights);

}  // namespace gale
