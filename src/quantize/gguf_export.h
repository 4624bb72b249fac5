// A plain checkpoint as a GGUF file whose decoder's linear layers are ggml's blocks.
#pragma once

#include <functional>
#include <string>

#include "base/thread_pool.h"
#include "gale/status.h"
#include "models/model_source.h"
#include "tensor/quant_format.h"
#include "weights/checkpoint.h"

namespace gale {

/// What a weight becomes when its rows are no whole blocks of `type`: Q8_0 where they are of that.
/// Errors: kInvalidArgument naming the tensor.
Result<GgmlType> BlockTypeOf(const CheckpointTensor& tensor, GgmlType type);

/// Writes `path`, which must end in ".gguf" and not exist: tensors one by one, metadata of
/// config.json, byte-level BPE tokenizers and the chat template.
/// Errors: kInvalidArgument (path); kUnsupported for architectures other than Llama, Qwen2 and
/// Qwen3, rope scalings, and tokenizers that GGUF has no name for; those of WholeFile.
Status ExportGguf(const ModelSource& source, const Checkpoint& checkpoint, GgmlType type,
                  const std::string& path, ThreadPool& threads,
                  const std::function<void(const CheckpointTensor&)>& done);

}  // namespace gale
