// A GGUF file, or the shards NAME-00001-of-0000N.gguf of one, as a checkpoint: its metadata as a
// config.json would have it, its tensors under Hugging Face's names.
// Layer L2 of the compute column; used by Checkpoint and ReadModelSource.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/gguf.h"
#include "base/mapped_file.h"
#include "gale/status.h"
#include "weights/gguf_architecture.h"
#include "weights/hf_config.h"
#include "weights/safetensors.h"

namespace gale {

/// By its ending: "model.gguf".
bool IsGgufPath(const std::string& path);
/// What Gale computes with of the types of elements; unset and kNone for others.
std::optional<DType> GgufDType(std::string_view type_name);
GgmlType GgufBlocks(std::string_view type_name);

struct GgufModel {
  std::vector<MappedFile> files;  ///< [shard]
  std::vector<Gguf> parts;        ///< [shard]; views into `files`

  /// `path` names the file, or the first of its shards, which finds the others.
  /// Errors: those of MappedFile::Open and Gguf::Parse; kInvalidArgument for another shard than the
  /// first; kDataCorrupt for shards that do not belong together.
  static Result<GgufModel> Open(const std::string& path);

  /// Null when there is none.
  const GgufTensor* FindTensor(std::string_view name) const;
  /// Of queries and keys: explicit, or an equal share of the hidden size.
  Result<int64_t> HeadDim() const;
  /// Errors: those of FindGgufArchitecture and ParseHfConfig; kUnsupported for keys whose values
  /// the architecture has no code for; kDataCorrupt.
  Result<HfConfig> Config(std::span<const std::string> known_architectures) const;

  /// All tensors but those of the rotary embedding, which are part of the configuration; the
  /// experts' one by one. Errors: kUnsupported for element types other than F32, F16, BF16 and
  /// those of kGgmlTypes; kDataCorrupt.
  Result<std::vector<CheckpointTensor>> Tensors() const;

 private:
  /// The tensor under Hugging Face's name, as it lies in the file.
  Result<CheckpointTensor> Entry(const GgufArchitecture& architecture,
                                 const GgufTensor& tensor) const;
};

}  // namespace gale
