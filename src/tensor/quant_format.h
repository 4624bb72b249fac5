// How a weight's bits are laid out; describes bits, not brands. Layer L1a.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/dtype.h"

namespace gale {

enum class BlockCode : uint8_t {
  kNone,       ///< plain elements of `data`
  kGgmlBlock,  ///< rows of blocks, each 32 elements of one scale (see ggml_block.h)
};

/// ggml's names of its block types.
enum class GgmlType : uint8_t { kNone, kQ4_0, kQ8_0, kMxfp4 };

struct QuantFormat {
  BlockCode code = BlockCode::kNone;
  DType data = DType::kBf16;
  GgmlType ggml = GgmlType::kNone;  ///< with kGgmlBlock

  friend bool operator==(const QuantFormat&, const QuantFormat&) = default;
};

}  // namespace gale
