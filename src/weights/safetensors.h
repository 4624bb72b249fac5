// The safetensors file format: 8 bytes of header length, a JSON header, the tensors' bytes.
// Layer L2 of the compute column; used by Checkpoint. The header is hostile input: nothing in it is
// believed before it is checked against the file's size.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "gale/status.h"
#include "weights/checkpoint_tensor.h"

namespace gale {

/// Lists the tensors of a whole file held in memory, in the order of their bytes. `source` names
/// the file in messages.
/// Errors: kDataCorrupt for anything that breaks the format: length, JSON, unknown dtype, a byte
/// range that contradicts dtype and shape, overlaps, gaps, bytes outside the file, duplicate names.
/// Cost: the header is copied and parsed; no tensor byte is touched.
Result<std::vector<CheckpointTensor>> ParseSafetensors(std::span<const std::byte> file,
                                                       const std::string& source);

}  // namespace gale
