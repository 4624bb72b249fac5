// The folder that gale quantize fills: one file of tensors for each decoder layer and one for the
// rest, each complete or not there, so that a run that was interrupted can go on.
#pragma once

#include <string>
#include <vector>

#include "gale/status.h"
#include "quantize/packing.h"

namespace gale {

class OutputFolder {
 public:
  /// `run` describes the run: a folder that a run of the same description left unfinished is taken
  /// up. Errors: kInvalidArgument when `path` holds anything else.
  static Result<OutputFolder> Open(const std::string& path, int num_shards, const std::string& run);

  bool HasShard(int index) const;
  /// Errors: kResourceExhausted (disk full); kInternal for other failures to write.
  Status WriteShard(int index, const std::vector<OutputTensor>& tensors) const;
  /// Writes the index of all shards, config.json with `quantization_config`, and copies what else
  /// belongs to the model in `source`; then the folder is a checkpoint.
  Status Finish(const std::string& source, const std::string& quantization_config) const;
  uint64_t TensorBytes() const;  ///< of all shards, headers included

 private:
  OutputFolder(std::string path, int num_shards)
      : path_(std::move(path)), num_shards_(num_shards) {}
  std::string ShardName(int index) const;
  Status WriteIndex() const;
  Status CopyCompanions(const std::string& source) const;

  std::string path_;
  int num_shards_;
};

}  // namespace gale
