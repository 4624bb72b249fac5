// Linear layers with the weight where it lies: nothing is packed at load, so a mapped checkpoint is
// used in place. Sums in f32 arithmetic from any float dtype or ggml's blocks.
#include <algorithm>

#include "backend/cpu/linear.h"

namespace gale::cpu {
namespace {

/// From here on converting a block of bf16 or f16 weights to f32 once pays for itself.
constexpr int64_t kConvertRows = 2 * kLinearRowTile + 1;
/// Output columns of a task come in multiples of every register tile's width (8, 6, 4, 3).
constexpr int64_t kColumnStep = 24;

class RowLinear final : public CpuLinear {
 public:
  using CpuLinear::CpuLinear;

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    CheckShape(weight.data, {weight.out, weight.in});
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    packed.data = weight.data;
    return packed;
  }

 protected:
  int64_t RowBlock() const override { return 256; }  // 1 MB for k = 1024

  /// Weights of half an L2 cache, but at least four tasks a thread.
  int64_t ColumnsPerTask(int64_t k, int64_t columns, int64_t) const override {
    constexpr int64_t kWeightFloats = 128 * 1024;
    const int64_t tasks = 4 * context_.pool.threads();
    const int64_t by_cache = kWeightFloats / std::max<int64_t>(k, 1);
    const int64_t by_threads = (columns + tasks - 1) / tasks;
    const int64_t steps = std::min(by_cache, by_threads) / kColumnStep;
    return std::max<int64_t>(steps, 1) * kColumnStep;
  }

  int64_t PackedFloats(int64_t rows, int64_t k) const override {
    return context_.kernels.packed_size(rows, k);
  }
  void PackRows(const void* x, DType dtype, int64_t stride, int64_t rows, int64_t k,
                float* packed) const override {
    context_.kernels.pack_rows(x, dtype, stride, rows, k, packed);
  }
  LinearOperand PackedOperand(const float* packed, int64_t) const override { return {packed, 0}; }
  bool ReadsInPlace(const TensorView&) const override { return false; }

  /// Many rows share one conversion of the weights to f32.
  LinearSums Multiply(const PackedLinear& packed, const LinearOperand& x, int64_t rows,
                      int64_t begin, int64_t end, Scratch& scratch) const override {
    const TensorView weight = packed.data.Rows(begin, end);
    const GgmlType blocks = packed.format.ggml;
    const int64_t columns = end - begin;
    const int64_t k = packed.in;
    const bool convert = weight.dtype != DType::kF32 && rows >= kConvertRows;
    float* sums = scratch.Floats((rows + 1) * columns + (convert ? columns * k : 0));
    float* bias = sums + rows * columns;
    float* converted = bias + columns;
    LinearBlock block{.x = static_cast<const float*>(x.data),
                      .rows = rows,
                      .k = k,
                      .weight = weight.data,
                      .weight_dtype = weight.dtype,
                      .blocks = blocks,
                      .weight_stride = blocks == GgmlType::kNone ? weight.strides[0] : k,
                      .cols = columns,
                      .out = sums,
                      .out_stride = columns};
    if (convert) {
      for (int64_t c = 0; c < columns; ++c) {
        if (blocks == GgmlType::kNone) {
          context_.kernels.to_f32(RowAt(weight, c), weight.dtype, converted + c * k, k);
        } else {
          context_.kernels.unpack_blocks(RowAt(weight, c), blocks, converted + c * k, k);
        }
      }
      block.weight = converted;
      block.blocks = GgmlType::kNone;
      block.weight_dtype = DType::kF32;
      block.weight_stride = k;
    }
    context_.kernels.linear(block);
    return {sums, columns, bias};
  }
};

}  // namespace

std::unique_ptr<LinearKernel> CreateRowLinear(Context& context) {
  return std::make_unique<RowLinear>(context);
}

}  // namespace gale::cpu
