// The safetensors file format: 8 bytes of header length, a JSON header, the tensors' bytes.
// Layer L2 of the compute column; used by Checkpoint. The header is hostile input: nothing in it is
// believed before it is checked against the file's size.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gale/status.h"
#include "tensor/dtype.h"

namespace gale {

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;      ///< the file's spelling, "BF16"
  std::optional<DType> dtype;  ///< unset for element types that Gale has no code for
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
  /// Not 0 for queries and keys of GGUF's llama: of each so many rows, row 2i + j is row
  /// i + j * head_dim / 2 in Hugging Face's order.
  int interleaved_head_dim = 0;
};

/// Lists the tensors of a whole file held in memory, in the order of their bytes. `source` names
/// the file in messages.
/// Errors: kDataCorrupt for anything that breaks the format: length, JSON, unknown dtype, a byte
/// range that contradicts dtype and shape, overlaps, gaps, bytes outside the file, duplicate names.
/// Cost: the header is copied and parsed; no tensor byte is touched.
Result<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const std::byte> file,
                                                       const std::string& source);

}  // namespace gale
