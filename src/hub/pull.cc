// PullModel: lists a revision's files, downloads those that the cache lacks, then names them.
// Layer L2; called by frontends. The cache's layout: models--ORG--NAME/{blobs,snapshots,refs}.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/status_macros.h"
#include "gale/hub.h"
#include "hub/blob.h"
#include "hub/file_selection.h"
#include "hub/hub_repository.h"
#include "weights/hub_cache.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string Endpoint() {
  std::string endpoint = Variable("HF_ENDPOINT");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint.empty() ? "https://huggingface.co" : endpoint;
}

bool IsOffline() {
  std::string value = Variable("HF_HUB_OFFLINE");
  std::transform(value.begin(), value.end(), value.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  return value == "1" || value == "ON" || value == "YES" || value == "TRUE";
}

/// HF_TOKEN, or what `hf auth login` has left in the hub's folder; may be empty.
Result<std::string> Token() {
  std::string token = Variable("HF_TOKEN");
  if (token.empty()) {
    std::string path = Variable("HF_TOKEN_PATH");
    if (path.empty()) path = fs::path(HubHomeFolder()) / "token";
    std::ifstream file(path);
    token.assign(std::istreambuf_iterator<char>(file), {});
  }
  const auto is_space = [](unsigned char c) { return std::isspace(c) != 0; };
  while (!token.empty() && is_space(token.back())) token.pop_back();
  const auto is_plain = [](unsigned char c) { return c > ' ' && c < 127; };
  if (std::all_of(token.begin(), token.end(), is_plain)) return token;
  return MakeError(
      ErrorCode::kInvalidArgument,
      "HF_TOKEN: expected letters, digits and signs, as in hf_abc; got other characters");
}

Status MakeFolder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: cannot be made: {}. HF_HUB_CACHE names the folder of the cache",
                               folder.string(), error.message()));
}

/// `make(PATH)` makes a file beside `path`, which then takes its place at once.
template <class Make>
Status Replace(const fs::path& path, Make&& make) {
  GALE_RETURN_IF_ERROR(MakeFolder(path.parent_path()));
  const fs::path fresh = fmt::format("{}.{}.incomplete", path.string(), getpid());
  std::error_code error;
  fs::remove(fresh, error);
  make(fresh, error);
  if (!error) fs::rename(fresh, path, error);
  if (!error) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   fmt::format("{}: cannot be written: {}", path.string(), error.message()));
}

/// snapshots/COMMIT/NAME, a relative link to blobs/BLOB.
Status LinkFile(const fs::path& snapshot, const HubFile& file, const fs::path& blob) {
  const fs::path link = snapshot / file.name;
  const fs::path target = blob.lexically_relative(link.parent_path());
  std::error_code ignored;
  if (fs::read_symlink(link, ignored) == target) return {};
  return Replace(link, [&](const fs::path& fresh, std::error_code& error) {
    fs::create_symlink(target, fresh, error);
  });
}

Status WriteRef(const fs::path& ref, const std::string& commit) {
  return Replace(ref, [&](const fs::path& fresh, std::error_code& error) {
    std::ofstream file(fresh);
    file << commit;
    file.close();
    if (!file) error = std::make_error_code(std::errc::io_error);
  });
}

bool IsWhole(const HubFile& file, const fs::path& blob) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(blob, error);
  return !error && bytes == file.bytes;
}

Status CheckDisk(const fs::path& folder, uint64_t needed_bytes) {
  struct statvfs disk = {};
  if (statvfs(folder.c_str(), &disk) != 0) return {};
  const auto free_bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  if (static_cast<double>(needed_bytes) <= free_bytes) return {};
  constexpr double kGiB = 1 << 30;
  return MakeError(
      ErrorCode::kResourceExhausted,
      fmt::format("{}: the download takes {:.2f} GiB, the disk has {:.2f} GiB free. "
                  "Free some space, or point HF_HUB_CACHE at another disk",
                  folder.string(), static_cast<double>(needed_bytes) / kGiB, free_bytes / kGiB));
}

}  // namespace

Result<PulledModel> PullModel(const PullOptions& options, const PullProgress& progress) {
  const std::optional<HubModel> model = ParseHubModel(options.model);
  if (!model) {
    return MakeError(ErrorCode::kInvalidArgument,
                     fmt::format("{}: expected ORG/NAME or ORG/NAME@REVISION, such as "
                                 "Qwen/Qwen3-0.6B",
                                 options.model));
  }
  if (IsOffline()) {
    return MakeError(ErrorCode::kUnsupported,
                     "HF_HUB_OFFLINE forbids downloads: unset it to pull a model");
  }
  GALE_ASSIGN_OR_RETURN(std::string token, Token());
  const bool has_token = !token.empty();
  HttpClient client(std::move(token));
  HubRepository repository(client, Endpoint(), *model, has_token);
  GALE_ASSIGN_OR_RETURN(const HubListing listing, repository.List());
  auto selected = SelectFiles(listing.files, options.gguf_file);
  if (!selected) {
    return MakeError(selected.error().code,
                     fmt::format("{}: {}", model->repository, selected.error().message));
  }

  const fs::path folder = HubModelFolder(*model, HubCacheFolder());
  GALE_RETURN_IF_ERROR(MakeFolder(folder / "blobs"));
  PulledModel pulled{.path = folder / "snapshots" / listing.commit,
                     .commit = listing.commit,
                     .files = *std::move(selected)};
  std::vector<HubFile> files;
  uint64_t missing_bytes = 0;
  for (const std::string& name : pulled.files) {
    GALE_ASSIGN_OR_RETURN(HubFile file, repository.Describe(listing.commit, name));
    const fs::path blob = folder / "blobs" / file.blob;
    if (!IsWhole(file, blob)) missing_bytes += file.bytes - PartialBytes(file, blob);
    pulled.total_bytes += file.bytes;
    files.push_back(std::move(file));
  }
  GALE_RETURN_IF_ERROR(CheckDisk(folder, missing_bytes));
  uint64_t done_bytes = 0;
  for (const HubFile& file : files) {
    const fs::path blob = folder / "blobs" / file.blob;
    if (!IsWhole(file, blob)) {
      const auto on_bytes = [&](uint64_t bytes) {
        if (progress) progress(done_bytes + bytes, pulled.total_bytes);
      };
      GALE_RETURN_IF_ERROR(DownloadBlob(client, repository, file, blob, on_bytes));
    }
    done_bytes += file.bytes;
    GALE_RETURN_IF_ERROR(LinkFile(pulled.path, file, blob));
  }
  pulled.downloaded_bytes = missing_bytes;
  if (model->revision != listing.commit) {
    GALE_RETURN_IF_ERROR(WriteRef(folder / "refs" / model->revision, listing.commit));
  }
  if (!options.gguf_file.empty()) pulled.path = fs::path(pulled.path) / pulled.files.front();
  return pulled;
}

}  // namespace gale
