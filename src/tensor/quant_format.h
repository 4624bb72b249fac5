// How a weight's bits are laid out; describes bits, not brands. Layer L1a.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace gale {

enum class BlockCode : uint8_t {
  kNone,       ///< plain elements of `data`
  kGgmlBlock,  ///< rows of blocks, each 32 or 256 elements with their scales (see ggml_block.h)
  kScaled,     ///< codes beside their scales: element = scale * (Value(code) - zero)
};

/// ggml's names of its block types.
enum class GgmlType : uint8_t {
  kNone,
  kQ4_0,
  kQ8_0,
  kMxfp4,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kIq4Nl,
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,
  kIq4Xs,
};

/// What a code of kScaled stands for. Codes of 4 bits lie two in a byte, the first in its low half.
enum class CodeType : uint8_t {
  kUInt4,   ///< 0 to 15
  kUInt8,   ///< 0 to 255
  kInt8,    ///< -128 to 127
  kF8E4M3,  ///< see f8.h
  kNf4,     ///< one of 16 quantiles of the normal distribution (QLoRA, arXiv 2305.14314)
};

constexpr int CodeBits(CodeType type) {
  return type == CodeType::kUInt4 || type == CodeType::kNf4 ? 4 : 8;
}

/// How the rows that such a weight meets are to be rounded first; a kernel may leave them exact.
enum class ActivationCode : uint8_t {
  kNone,    ///< as they are
  kTensor,  ///< to the codes' type by one scale that the checkpoint gives
  kRow,     ///< by a scale for each row, found from it
  kGroup,   ///< by one for each 128 numbers of a row
};

/// With kScaled, of the scales (and zeros).
struct ScaleBlock {
  int64_t out = 1;  ///< outputs that share one; 0: all of them
  int64_t in = 0;   ///< inputs; 0: all of them

  friend bool operator==(const ScaleBlock&, const ScaleBlock&) = default;
};

struct QuantFormat {
  BlockCode code = BlockCode::kNone;
  DType data = DType::kBf16;        ///< with kNone
  GgmlType ggml = GgmlType::kNone;  ///< with kGgmlBlock
  // The rest with kScaled.
  CodeType codes = CodeType::kUInt4;
  ScaleBlock block = {};
  bool has_zeros = false;  ///< else all are 0 or, of kUInt4 and kUInt8, the middle: 8 or 128
  bool has_permutation = false;
  ActivationCode activation = ActivationCode::kNone;

  friend bool operator==(const QuantFormat&, const QuantFormat&) = default;
};

/// Bytes of a weight [out, in] in canonical form: of its elements or codes, scales and zeros.
size_t WeightBytesOf(const QuantFormat& format, int64_t in, int64_t out);

}  // namespace gale
