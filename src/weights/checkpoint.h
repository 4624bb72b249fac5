// The tensors of a checkpoint folder, whether one safetensors file or many with an index.
// Layer L2 of the compute column; used by the weight loader and by ReadModelInfo.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "gale/status.h"
#include "weights/safetensors.h"

namespace gale {

/// The files that Checkpoint::Open would read, which may be missing; empty when there is neither
/// model.safetensors nor an index. Errors: kDataCorrupt for an index that cannot be read.
Result<std::set<std::string>> WeightFileNames(const std::string& folder);

/// Immutable. The entries' bytes live in mappings that this object holds.
class Checkpoint {
 public:
  /// Reads model.safetensors, or all files that model.safetensors.index.json names; or a GGUF file
  /// with its shards when `folder` ends in ".gguf".
  /// Errors: kNotFound; kDataCorrupt for a bad file or an index that contradicts its files.
  static Result<std::unique_ptr<const Checkpoint>> Open(const std::string& folder);

  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  const CheckpointTensor* Find(std::string_view name) const;  ///< null when there is none
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  const std::string& folder() const { return folder_; }
  /// Asks the kernel to read all files ahead of use; returns at once.
  void Prefetch() const;

 private:
  explicit Checkpoint(std::string folder) : folder_(std::move(folder)) {}
  Status AddFile(const std::string& file_name);
  Status AddIndexedFiles(const std::string& index_path);
  void BuildNameTable();

  std::string folder_;
  std::vector<MappedFile> files_;
  std::vector<CheckpointTensor> tensors_;
  std::unordered_map<std::string_view, const CheckpointTensor*> by_name_;
};

}  // namespace gale
