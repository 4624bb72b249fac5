// How a weight's bits are laid out; describes bits, not brands. Layer L1a.
#pragma once

#include <array>
#include <cstdint>

#include "tensor/dtype.h"

namespace gale {

enum class BlockCode : uint8_t {
  kNone,  ///< plain elements of `data`
};

struct QuantFormat {
  BlockCode code = BlockCode::kNone;
  DType data = DType::kBf16;

  friend bool operator==(const QuantFormat&, const QuantFormat&) = default;
};

}  // namespace gale
