#include "tensor/quant_format.h"

#include "tensor/ggml_block.h"

namespace gale {

size_t WeightBytesOf(const QuantFormat& format, int64_t in, int64_t out) {
  const auto blocks = [](int64_t elements, int64_t block) {
    return static_cast<size_t>(block == 0 ? 1 : (elements + block - 1) / block);
  };
  const auto elements = static_cast<size_t>(in * out);
  switch (format.code) {
    case BlockCode::kNone: return elements * DTypeBytes(format.data);
    case BlockCode::kGgmlBlock: return static_cast<size_t>(out * GgmlRowBytes(format.ggml, in));
    case BlockCode::kScaled: break;
  }
  const size_t scales = blocks(out, format.block.out) * blocks(in, format.block.in);
  return elements * static_cast<size_t>(CodeBits(format.codes)) / 8 +
         scales * (sizeof(float) + (format.has_zeros ? 1 : 0)) +
         (format.has_permutation ? static_cast<size_t>(in) * sizeof(int32_t) : 0);
}

}  // namespace gale
