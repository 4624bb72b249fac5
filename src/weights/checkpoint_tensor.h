// One tensor of a checkpoint as its file describes it, whichever the format. Layer L2 of the
// compute column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/quant_format.h"

namespace gale {

struct CheckpointTensor {
  std::string name;
  std::string dtype_name;      ///< the file's spelling, "BF16"
  std::optional<DType> dtype;  ///< unset for element types that Gale has no code for, and for
                               ///< blocks
  std::vector<int64_t> shape;  ///< in elements
  std::span<const std::byte> data;
  /// Not 0 for queries and keys of GGUF's llama: of each so many rows, row 2i + j is row
  /// i + j * head_dim / 2 in Hugging Face's order.
  int interleaved_head_dim = 0;
  /// Not null for DeepSeek's kv_b_proj in GGUF files, which have a head's rows for keys and those
  /// for values apart: `data` is [heads, in, keys], the keys' rows transposed; this is [heads,
  /// values, in].
  std::shared_ptr<const CheckpointTensor> value_rows = nullptr;
  float offset = 0;                   ///< added to all elements in the file; to be taken off
  GgmlType blocks = GgmlType::kNone;  ///< `data` is rows of these in place of elements
};

}  // namespace gale
