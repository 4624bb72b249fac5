// A copy of a checkpoint with something changed, in a temporary folder: how tests show that a wrong
// model does not pass for the right one.
#pragma once

#include <functional>
#include <string>

#include "weights/checkpoint.h"

namespace gale {

class EditedCheckpoint {
 public:
  using EditTensor = std::function<void(CheckpointTensor& entry, std::string& bytes)>;
  using EditConfig = std::function<void(std::string& config_json)>;

  /// Either edit may be empty. Of a tensor, its bytes and dtype_name may be changed. A tensor left
  /// without bytes is left out. Shards are joined into one file.
  EditedCheckpoint(const std::string& folder, const EditConfig& config, const EditTensor& tensor);
  ~EditedCheckpoint();
  EditedCheckpoint(const EditedCheckpoint&) = delete;
  EditedCheckpoint& operator=(const EditedCheckpoint&) = delete;

  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

/// CHECKs that `from` stands in `text` and replaces it.
void ReplaceOnce(std::string& text, const std::string& from, const std::string& to);

}  // namespace gale
