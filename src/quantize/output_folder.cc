#include "quantize/output_folder.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/mapped_file.h"
#include "base/status_macros.h"
#include "quantize/whole_file.h"
#include "weights/safetensors.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRunFile = "quantize.run";  ///< in a folder that is not finished

Status WriteText(const fs::path& path, const std::string& text) {
  WholeFile file(path);
  GALE_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(text))));
  return file.Finish();
}

Result<std::string> ReadText(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return MakeError(ErrorCode::kNotFound, fmt::format("cannot read {}", path.string()));
  return text;
}

/// {"name":{"dtype":...}, ...}, padded so that the tensors' bytes begin at a multiple of 8.
std::string Header(const std::vector<OutputTensor>& tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  uint64_t offset = 0;
  for (const OutputTensor& tensor : tensors) {
    const uint64_t end = offset + tensor.bytes().size();
    json += fmt::format(R"(,"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        tensor.name, tensor.dtype, fmt::join(tensor.shape, ","), offset, end);
    offset = end;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + json;
}

bool IsCompanion(const fs::path& path) {
  const std::string name = path.filename();
  if (name == "config.json" || name.ends_with(".safetensors.index.json")) return false;
  for (const char* extension : {".json", ".jinja", ".txt", ".model", ".tiktoken"}) {
    if (path.extension() == extension) return true;
  }
  return false;
}

/// `text`, a JSON object, with another member at its end.
std::string WithMember(std::string text, const std::string& name, const std::string& json) {
  text.resize(text.rfind('}'));
  text.resize(text.find_last_not_of(" \t\r\n") + 1);
  return fmt::format("{},\n  \"{}\": {}\n}}\n", text, name, json);
}

}  // namespace

Result<OutputFolder> OutputFolder::Open(const std::string& path, int num_shards,
                                        const std::string& run) {
  std::error_code error;
  const fs::path run_path = fs::path(path) / kRunFile;
  if (fs::exists(path, error) && !fs::is_empty(path, error)) {
    if (!fs::exists(run_path, error)) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          fmt::format("{} exists: expected a folder that is not there yet, or one that "
                      "an interrupted run of the same command has left",
                      path));
    }
    GALE_ASSIGN_OR_RETURN(const std::string known, ReadText(run_path));
    if (known != run) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("{} holds an unfinished run with other options:\n{}expected\n{}"
                                   "Continue that one, or remove the folder",
                                   path, known, run));
    }
  } else {
    fs::create_directories(path, error);
    if (error) {
      return MakeError(ErrorCode::kInvalidArgument,
                       fmt::format("cannot make the folder {}: {}", path, error.message()));
    }
    GALE_RETURN_IF_ERROR(WriteText(run_path, run));
  }
  return OutputFolder(path, num_shards);
}

std::string OutputFolder::ShardName(int index) const {
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, num_shards_);
}

bool OutputFolder::HasShard(int index) const {
  std::error_code error;
  return fs::exists(fs::path(path_) / ShardName(index), error);
}

Status OutputFolder::WriteShard(int index, const std::vector<OutputTensor>& tensors) const {
  WholeFile file(fs::path(path_) / ShardName(index));
  const std::string header = Header(tensors);
  GALE_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(header))));
  for (const OutputTensor& tensor : tensors) GALE_RETURN_IF_ERROR(file.Write(tensor.bytes()));
  return file.Finish();
}

uint64_t OutputFolder::TensorBytes() const {
  uint64_t bytes = 0;
  std::error_code error;
  for (int i = 0; i < num_shards_; ++i)
    bytes += fs::file_size(fs::path(path_) / ShardName(i), error);
  return bytes;
}

Status OutputFolder::WriteIndex() const {
  std::map<std::string, std::string> shard_of;
  uint64_t bytes = 0;
  for (int i = 0; i < num_shards_; ++i) {
    const std::string path = fs::path(path_) / ShardName(i);
    GALE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    GALE_ASSIGN_OR_RETURN(const auto tensors, ParseSafetensors(file.bytes(), path));
    for (const CheckpointTensor& tensor : tensors) {
      shard_of[tensor.name] = ShardName(i);
      bytes += tensor.data.size();
    }
  }
  std::vector<std::string> lines;
  for (const auto& [name, shard] : shard_of) {
    lines.push_back(fmt::format(R"(    "{}": "{}")", name, shard));
  }
  return WriteText(fs::path(path_) / "model.safetensors.index.json",
                   fmt::format("{{\n  \"metadata\": {{\"total_size\": {}}},\n  \"weight_map\": "
                               "{{\n{}\n  }}\n}}\n",
                               bytes, fmt::join(lines, ",\n")));
}

Status OutputFolder::CopyCompanions(const std::string& source) const {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(source, error)) {
    if (!entry.is_regular_file(error) || !IsCompanion(entry.path())) continue;
    GALE_ASSIGN_OR_RETURN(const std::string text, ReadText(entry.path()));
    GALE_RETURN_IF_ERROR(WriteText(fs::path(path_) / entry.path().filename(), text));
  }
  return {};
}

Status OutputFolder::Finish(const std::string& source,
                            const std::string& quantization_config) const {
  GALE_RETURN_IF_ERROR(WriteIndex());
  GALE_RETURN_IF_ERROR(CopyCompanions(source));
  GALE_ASSIGN_OR_RETURN(const std::string config, ReadText(fs::path(source) / "config.json"));
  GALE_RETURN_IF_ERROR(WriteText(fs::path(path_) / "config.json",
                                 WithMember(config, "quantization_config", quantization_config)));
  std::error_code error;
  fs::remove(fs::path(path_) / kRunFile, error);
  return {};
}

}  // namespace gale
