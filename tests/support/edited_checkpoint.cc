#include "support/edited_checkpoint.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/mapped_file.h"

namespace gale {
namespace {

namespace fs = std::filesystem;

void WriteFile(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  GALE_CHECK(file.good());
}

}  // namespace

EditedCheckpoint::EditedCheckpoint(const std::string& folder, const EditConfig& config,
                                   const EditTensor& tensor) {
  folder_ = fs::temp_directory_path() / "gale_checkpoint_XXXXXX";
  GALE_CHECK(mkdtemp(folder_.data()) != nullptr);

  std::string config_json(MappedFile::Open(folder + "/config.json")->text());
  if (config) config(config_json);
  WriteFile(fs::path(folder_) / "config.json", config_json);

  const auto checkpoint = Checkpoint::Open(folder);
  GALE_CHECK(checkpoint.has_value());
  std::string header = "{";
  std::string data;
  for (CheckpointTensor entry : (*checkpoint)->tensors()) {
    std::string bytes(reinterpret_cast<const char*>(entry.data.data()), entry.data.size());
    if (tensor) tensor(entry, bytes);
    if (bytes.empty()) continue;
    header += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          header.size() > 1 ? "," : "", entry.name, entry.dtype_name,
                          fmt::join(entry.shape, ","), data.size(), data.size() + bytes.size());
    data += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t length = header.size();
  WriteFile(fs::path(folder_) / "model.safetensors",
            std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data);
}

EditedCheckpoint::~EditedCheckpoint() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void ReplaceOnce(std::string& text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  GALE_CHECK_NE(at, std::string::npos);
  text.replace(at, from.size(), to);
}

}  // namespace gale
