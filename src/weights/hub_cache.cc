#include "weights/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/status_macros.h"
#include "weights/checkpoint.h"
#include "weights/gguf_model.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDefaultRevision = "main";

/// One component of a path that stays in its folder.
bool IsPlainName(std::string_view name) {
  const auto allowed = [](unsigned char c) {
    return c < 128 && (std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.');
  };
  return !name.empty() && name.front() != '-' && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(), allowed);
}

/// A branch may have slashes: refs/pr/1.
bool IsRevision(std::string_view revision) {
  for (size_t slash; (slash = revision.find('/')) != std::string_view::npos;) {
    if (!IsPlainName(revision.substr(0, slash))) return false;
    revision.remove_prefix(slash + 1);
  }
  return IsPlainName(revision);
}

/// An empty variable counts as unset; a leading ~ is the home folder.
std::optional<fs::path> FolderVariable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string_view text = value;
  const char* home = std::getenv("HOME");
  if (home == nullptr || (text != "~" && !text.starts_with("~/"))) return fs::path(text);
  return fs::path(std::string(home) + std::string(text.substr(1)));
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

tl::unexpected<Error> Missing(const HubModel& model, const std::string& what) {
  const std::string revision = model.revision == kDefaultRevision ? "" : "@" + model.revision;
  return MakeError(ErrorCode::kNotFound,
                   fmt::format("{}: {}. Get it with: gale pull {}{}", model.repository, what,
                               model.repository, revision));
}

/// GGUF files of a snapshot by their paths, of sharded ones the first shard.
std::vector<std::string> GgufFiles(const fs::path& snapshot) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(snapshot, error), end; !error && it != end;
       it.increment(error)) {
    const std::string path = it->path();
    const bool is_later_shard =
        path.find("-of-") != std::string::npos && path.find("-00001-of-") == std::string::npos;
    if (IsGgufPath(path) && !is_later_shard) files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

Status CheckComplete(const HubModel& model, const fs::path& snapshot, bool needs_weights) {
  if (!Exists(snapshot / "config.json")) {
    return Missing(model, fmt::format("the snapshot {} has no config.json", snapshot.string()));
  }
  if (!needs_weights) return {};
  GALE_ASSIGN_OR_RETURN(const std::set<std::string> names, WeightFileNames(snapshot));
  if (names.empty()) {
    return Missing(model,
                   fmt::format("the snapshot {} has no safetensors weights", snapshot.string()));
  }
  const auto is_missing = [&](const std::string& name) { return !Exists(snapshot / name); };
  const auto num_missing = std::count_if(names.begin(), names.end(), is_missing);
  if (num_missing == 0) return {};
  return Missing(model, fmt::format("the snapshot {} lacks {} of {} weight files, first {}",
                                    snapshot.string(), num_missing, names.size(),
                                    *std::find_if(names.begin(), names.end(), is_missing)));
}

}  // namespace

std::optional<HubModel> ParseHubModel(std::string_view name) {
  const size_t at = name.find('@');
  const std::string_view repository = name.substr(0, at);
  const std::string_view revision =
      at == std::string_view::npos ? kDefaultRevision : name.substr(at + 1);
  const size_t slash = repository.find('/');
  if (slash == std::string_view::npos || !IsPlainName(repository.substr(0, slash)) ||
      !IsPlainName(repository.substr(slash + 1)) || !IsRevision(revision)) {
    return std::nullopt;
  }
  return HubModel{std::string(repository), std::string(revision)};
}

std::string HubHomeFolder() {
  if (const auto home = FolderVariable("HF_HOME")) return *home;
  if (const auto cache = FolderVariable("XDG_CACHE_HOME")) return *cache / "huggingface";
  return FolderVariable("HOME").value_or("") / ".cache/huggingface";
}

std::string HubCacheFolder() {
  if (const auto cache = FolderVariable("HF_HUB_CACHE")) return *cache;
  return fs::path(HubHomeFolder()) / "hub";
}

std::string HubModelFolder(const HubModel& model, const std::string& cache_folder) {
  const size_t slash = model.repository.find('/');
  return fs::path(cache_folder) / fmt::format("models--{}--{}", model.repository.substr(0, slash),
                                              model.repository.substr(slash + 1));
}

Result<std::string> FindSnapshot(const HubModel& model, const std::string& cache_folder,
                                 bool needs_weights) {
  const fs::path folder = HubModelFolder(model, cache_folder);
  if (!Exists(folder)) {
    return Missing(model,
                   fmt::format("no such path, and not in the Hugging Face cache {}", cache_folder));
  }
  const fs::path ref = folder / "refs" / model.revision;
  std::string commit = model.revision;
  if (std::ifstream file(ref); file) file >> commit;
  const fs::path snapshot = folder / "snapshots" / commit;
  if (!IsPlainName(commit) || !Exists(snapshot)) {
    return Missing(model, Exists(ref) ? fmt::format("{} names snapshot \"{}\", which is not there",
                                                    ref.string(), commit)
                                      : fmt::format("{} has no revision \"{}\"", folder.string(),
                                                    model.revision));
  }
  if (!Exists(snapshot / "config.json")) {
    const std::vector<std::string> files = GgufFiles(snapshot);
    if (files.size() == 1) return files[0];
    if (files.size() > 1) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("{}: give the path of one of its {} GGUF files: {}",
                                   model.repository, files.size(), fmt::join(files, ", ")));
    }
  }
  GALE_RETURN_IF_ERROR(CheckComplete(model, snapshot, needs_weights));
  return snapshot.string();
}

}  // namespace gale
