#include "quant/canonical_weight.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"
#include "quant/dequantize.h"
#include "tensor/ggml_block.h"
#include "weights/float_convert.h"

namespace gale {
namespace {

constexpr size_t kAlignment = 64;

int64_t Blocks(int64_t elements, int64_t block) {
  return block == 0 ? 1 : (elements + block - 1) / block;
}

/// Takes stretches of one piece of memory, in turn.
class Carver {
 public:
  explicit Carver(void* memory) : next_(static_cast<std::byte*>(memory)) {}

  TensorView Take(DType dtype, std::initializer_list<int64_t> dims) {
    const TensorView view(next_, dtype, dims);
    const size_t bytes = (view.Bytes() + kAlignment - 1) / kAlignment * kAlignment;
    if (next_ != nullptr) next_ += bytes;
    bytes_ += bytes;
    return view;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* next_;
  size_t bytes_ = 0;
};

LinearWeight Carve(Carver& carver, const QuantFormat& format, int64_t in, int64_t out) {
  LinearWeight weight;
  weight.format = format;
  weight.in = in;
  weight.out = out;
  switch (format.code) {
    case BlockCode::kNone: weight.data = carver.Take(format.data, {out, in}); break;
    case BlockCode::kGgmlBlock:
      weight.data = BlockRows(carver.Take(DType::kU8, {out, GgmlRowBytes(format.ggml, in)}), in);
      break;
    case BlockCode::kScaled: {
      const int64_t rows = Blocks(out, format.block.out);
      const int64_t columns = Blocks(in, format.block.in);
      weight.data = carver.Take(DType::kU8, {out, in * CodeBits(format.codes) / 8});
      weight.scales = carver.Take(DType::kF32, {rows, columns});
      if (format.has_zeros) weight.zeros = carver.Take(DType::kU8, {rows, columns});
      if (format.has_permutation) weight.permutation = carver.Take(DType::kI32, {in});
      break;
    }
  }
  return weight;
}

}  // namespace

LinearWeight PlainOrBlocks(const RawParam& param, int64_t in) {
  LinearWeight weight{
      .format = {.data = param.view.dtype}, .in = in, .out = param.view.dim(0), .data = param.view};
  if (param.blocks == GgmlType::kNone) return weight;
  weight.format = {.code = BlockCode::kGgmlBlock, .data = DType::kU8, .ggml = param.blocks};
  weight.data = BlockRows(param.view, in);
  return weight;
}

Result<CanonicalWeight> AllocateWeight(BindContext& context, const QuantFormat& format, int64_t in,
                                       int64_t out) {
  Carver measure(nullptr);
  Carve(measure, format, in, out);
  CanonicalWeight result;
  GALE_ASSIGN_OR_RETURN(result.memory,
                        context.AllocateHost(DType::kU8, {static_cast<int64_t>(measure.bytes())}));
  Carver carver(result.memory.view.data);
  result.weight = Carve(carver, format, in, out);
  if (format.code == BlockCode::kGgmlBlock) {
    result.memory.blocks = format.ggml;
    result.memory.view =
        TensorView(result.memory.view.data, DType::kU8, {out, GgmlRowBytes(format.ggml, in)});
  }
  if (format.has_permutation) {
    auto* permutation = result.weight.permutation.As<int32_t>();
    std::iota(permutation, permutation + in, 0);
  }
  return result;
}

LinearWeight OutputsOf(const LinearWeight& weight, int64_t begin, int64_t end) {
  LinearWeight outputs = weight;
  outputs.out = end - begin;
  outputs.data = weight.data.Rows(begin, end);
  if (!weight.scales) return outputs;
  const int64_t block = weight.format.block.out == 0 ? weight.out : weight.format.block.out;
  GALE_CHECK_EQ(begin % block, 0);
  GALE_CHECK(end % block == 0 || end == weight.out);
  const int64_t last = (end + block - 1) / block;
  outputs.scales = weight.scales.Rows(begin / block, last);
  if (weight.zeros) outputs.zeros = weight.zeros.Rows(begin / block, last);
  return outputs;
}

void Dequantize(const LinearWeight& weight, const TensorView& plain, ThreadPool& threads) {
  threads.ParallelFor(weight.out, [&](int64_t row, int) {
    std::vector<float> values(static_cast<size_t>(weight.in));
    DequantizeRow(weight, row, values);
    ConvertElements(std::as_bytes(std::span(values)), DType::kF32, plain.Rows(row, row + 1));
  });
}

}  // namespace gale
