#include "weights/checkpoint.h"

#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"
#include "weights/gguf_model.h"
#include "weights/json_file.h"

namespace gale {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

/// Tensor name to file name.
Result<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  GALE_ASSIGN_OR_RETURN(const MappedFile file, OpenJsonFile(path));
  GALE_ASSIGN_OR_RETURN(const JsonDocument document, JsonDocument::Parse(file.text(), path));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  GALE_ASSIGN_OR_RETURN(const JsonValue value, root.Get("weight_map"));
  GALE_ASSIGN_OR_RETURN(const JsonObject weight_map, value.Object());
  std::map<std::string, std::string> index;
  GALE_RETURN_IF_ERROR(weight_map.ForEach([&](std::string_view name,
                                              const JsonValue& target) -> Status {
    GALE_ASSIGN_OR_RETURN(const std::string_view file_name, target.String());
    // A plain file name: an index must not reach outside its folder.
    if (file_name.empty() || file_name.find('/') != std::string_view::npos ||
        file_name.find('\0') != std::string_view::npos || !file_name.ends_with(".safetensors")) {
      return tl::unexpected(target.Wrong("the name of a .safetensors file beside the index"));
    }
    index.emplace(name, file_name);
    return {};
  }));
  if (index.empty()) return tl::unexpected(value.Wrong("at least one tensor"));
  return index;
}

}  // namespace

Result<std::set<std::string>> WeightFileNames(const std::string& folder) {
  const std::filesystem::path path(folder);
  std::error_code ignored;
  if (std::filesystem::exists(path / kSingleFile, ignored))
    return std::set{std::string(kSingleFile)};
  std::set<std::string> names;
  if (!std::filesystem::exists(path / kIndexFile, ignored)) return names;
  GALE_ASSIGN_OR_RETURN(const auto index, ReadIndex(path / kIndexFile));
  for (const auto& [tensor, file_name] : index) names.insert(file_name);
  return names;
}

Result<std::unique_ptr<const Checkpoint>> Checkpoint::Open(const std::string& folder) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(folder));
  if (IsGgufPath(folder)) {
    GALE_ASSIGN_OR_RETURN(GgufModel model, GgufModel::Open(folder));
    GALE_ASSIGN_OR_RETURN(checkpoint->tensors_, model.Tensors());
    checkpoint->files_ = std::move(model.files);
    checkpoint->BuildNameTable();
    return checkpoint;
  }
  const std::filesystem::path path(folder);
  std::error_code ignored;
  if (std::filesystem::exists(path / kSingleFile, ignored)) {
    GALE_RETURN_IF_ERROR(checkpoint->AddFile(kSingleFile));
    checkpoint->BuildNameTable();
  } else if (std::filesystem::exists(path / kIndexFile, ignored)) {
    GALE_RETURN_IF_ERROR(checkpoint->AddIndexedFiles(path / kIndexFile));
  } else {
    return MakeError(ErrorCode::kNotFound,
                     fmt::format("{}: expected {} or {}, found neither; other weight formats must "
                                 "be converted to safetensors first",
                                 folder, kSingleFile, kIndexFile));
  }
  return checkpoint;
}

const CheckpointTensor* Checkpoint::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

void Checkpoint::Prefetch() const {
  for (const MappedFile& file : files_) file.Prefetch(0, file.bytes().size());
}

Status Checkpoint::AddFile(const std::string& file_name) {
  const std::string path = std::filesystem::path(folder_) / file_name;
  GALE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  GALE_ASSIGN_OR_RETURN(auto entries, ParseSafetensors(file.bytes(), path));
  files_.push_back(std::move(file));
  std::move(entries.begin(), entries.end(), std::back_inserter(tensors_));
  return {};
}

Status Checkpoint::AddIndexedFiles(const std::string& index_path) {
  GALE_ASSIGN_OR_RETURN(const auto index, ReadIndex(index_path));
  std::set<std::string> file_names;
  for (const auto& [name, file_name] : index) file_names.insert(file_name);
  for (const std::string& file_name : file_names) {
    const size_t first = tensors_.size();
    GALE_RETURN_IF_ERROR(AddFile(file_name));
    for (size_t i = first; i < tensors_.size(); ++i) {
      const auto indexed = index.find(tensors_[i].name);
      if (indexed == index.end() || indexed->second != file_name) {
        return MakeError(
            ErrorCode::kDataCorrupt,
            fmt::format("{}: expected {} in {}, but it is in {}", index_path, tensors_[i].name,
                        indexed == index.end() ? "no file" : indexed->second, file_name));
      }
    }
  }
  BuildNameTable();
  for (const auto& [name, file_name] : index) {
    if (Find(name) == nullptr) {
      return MakeError(ErrorCode::kDataCorrupt,
                       fmt::format("{}: expected {} in {}, which has no such tensor", index_path,
                                   name, file_name));
    }
  }
  return {};
}

void Checkpoint::BuildNameTable() {
  for (const CheckpointTensor& entry : tensors_) by_name_.emplace(entry.name, &entry);
}

}  // namespace gale
