// A GGUF file, or the shards NAME-00001-of-0000N.gguf of one, as a checkpoint: its metadata as a
// config.json would have it, its tensors under Hugging Face's names.
// Layer L2 of the compute column; used by Checkpoint and ReadModelSource.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/gguf.h"
#include "base/mapped_file.h"
#include "gale/status.h"
#include "weights/hf_config.h"
#include "weights/safetensors.h"

namespace gale {

/// By its ending: "model.gguf".
bool IsGgufPath(const std::string& path);

struct GgufModel {
  std::vector<MappedFile> files;  ///< [shard]
  std::vector<Gguf> parts;        ///< [shard]; views into `files`

  /// `path` names the file, or the first of its shards, which finds the others.
  /// Errors: those of MappedFile::Open and Gguf::Parse; kInvalidArgument for another shard than the
  /// first; kDataCorrupt for shards that do not belong together.
  static Result<GgufModel> Open(const std::string& path);

  /// Errors: kUnsupported for an architecture other than llama, qwen2 and qwen3, for experts, and
  /// for rope scalings other than rope_freqs.weight; those of ParseHfConfig.
  Result<HfConfig> Config(std::span<const std::string> known_architectures) const;

  /// All tensors but rope_freqs.weight, which is part of the configuration.
  /// Errors: kUnsupported for element types other than F32, F16, BF16, Q8_0 and Q4_0;
  /// kDataCorrupt.
  Result<std::vector<CheckpointTensor>> Tensors() const;
};

}  // namespace gale
