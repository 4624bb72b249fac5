// y = x * weight^T + bias for any number of rows, with the weight where it lies: nothing is packed
// at load, so a mapped checkpoint is used in place.
#include <algorithm>

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

/// Rows packed at a time: their operand (1 MB for k = 1024) stays in the last-level cache.
constexpr int64_t kRowBlock = 256;
/// From here on converting a block of bf16 or f16 weights to f32 once pays for itself.
constexpr int64_t kConvertRows = 2 * kLinearRowTile + 1;
/// Output columns of a task come in multiples of every register tile's width (8, 6, 4, 3).
constexpr int64_t kColumnStep = 24;

/// Columns per task: weights of half an L2 cache, but at least four tasks a thread.
int64_t ColumnsPerTask(int64_t k, int64_t columns, int threads) {
  constexpr int64_t kWeightFloats = 128 * 1024;
  const int64_t by_cache = kWeightFloats / std::max<int64_t>(k, 1);
  const int64_t by_threads = (columns + 4 * threads - 1) / (4 * threads);
  const int64_t steps = std::min(by_cache, by_threads) / kColumnStep;
  return std::max<int64_t>(steps, 1) * kColumnStep;
}

class CpuLinear final : public LinearKernel {
 public:
  explicit CpuLinear(Context& context) : context_(context) {}

  Result<PackedLinear> Prepare(const LinearWeight& weight) const override {
    CheckShape(weight.data, {weight.out, weight.in});
    PackedLinear packed;
    packed.format = weight.format;
    packed.in = weight.in;
    packed.out = weight.out;
    packed.data = weight.data;
    return packed;
  }

  void Run(Stream&, const LinearArgs& args) const override {
    const std::lock_guard lock(context_.mutex);
    const PackedLinear& weight = *args.weight;
    const int64_t rows = args.x.dim(0);
    CheckActivation(args.x);
    CheckActivation(args.out);
    CheckShape(args.x, {rows, weight.in});
    CheckShape(args.out, {rows, weight.out});
    if (args.bias) CheckShape(args.bias, {weight.out});
    for (int64_t row = 0; row < rows; row += kRowBlock) {
      RunBlock(args, row, std::min(kRowBlock, rows - row));
    }
  }

 private:
  void RunBlock(const LinearArgs& args, int64_t first_row, int64_t rows) const {
    const int64_t columns = args.weight->out;
    const int64_t step = ColumnsPerTask(args.weight->in, columns, context_.pool.threads());
    const float* x = Pack(args.x, first_row, rows);
    context_.pool.ParallelFor((columns + step - 1) / step, [&](int64_t task, int thread) {
      const int64_t begin = task * step;
      RunColumns(args, x, first_row, rows, begin, std::min(begin + step, columns), thread);
    });
  }

  const float* Pack(const TensorView& x, int64_t first_row, int64_t rows) const {
    const CpuKernels& kernels = context_.kernels;
    const int64_t k = x.dim(1);
    float* packed = context_.shared_scratch.Floats(kernels.packed_size(rows, k));
    const int64_t tiles = (rows + kLinearRowTile - 1) / kLinearRowTile;
    ForRows(context_, tiles, kLinearRowTile * k, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin * kLinearRowTile; row < std::min(end * kLinearRowTile, rows);
           row += kLinearRowTile) {
        kernels.pack_rows(RowAt(x, first_row + row), x.dtype, x.strides[0],
                          std::min(kLinearRowTile, rows - row), k,
                          packed + kernels.packed_size(row, k));
      }
    });
    return packed;
  }

  void RunColumns(const LinearArgs& args, const float* x, int64_t first_row, int64_t rows,
                  int64_t begin, int64_t end, int thread) const {
    const CpuKernels& kernels = context_.kernels;
    const TensorView weight = args.weight->data.Rows(begin, end);
    const int64_t k = weight.dim(1);
    const int64_t columns = end - begin;
    const bool convert = weight.dtype != DType::kF32 && rows >= kConvertRows;
    const bool direct = args.out.dtype == DType::kF32 && !args.bias;
    Scratch& scratch = context_.thread_scratch[static_cast<size_t>(thread)];
    float* sums = scratch.Floats((rows + 1) * columns + (convert ? columns * k : 0));
    float* bias = sums + rows * columns;
    float* converted = bias + columns;

    LinearBlock block{.x = x,
                      .rows = rows,
                      .k = k,
                      .weight = weight.data,
                      .weight_dtype = weight.dtype,
                      .weight_stride = weight.strides[0],
                      .cols = columns,
                      .out = sums,
                      .out_stride = columns};
    if (convert) {
      for (int64_t c = 0; c < columns; ++c) {
        kernels.to_f32(RowAt(weight, c), weight.dtype, converted + c * k, k);
      }
      block.weight = converted;
      block.weight_dtype = DType::kF32;
      block.weight_stride = k;
    }
    const TensorView out = args.out.Slice(1, begin, end);
    if (direct) {
      block.out = static_cast<float*>(RowAt(out, first_row));
      block.out_stride = out.strides[0];
    }
    kernels.linear(block);
    if (direct) return;

    if (args.bias) {
      kernels.to_f32(args.bias.Slice(0, begin, end).data, args.bias.dtype, bias, columns);
    } else {
      std::fill_n(bias, columns, 0.0F);
    }
    for (int64_t r = 0; r < rows; ++r) {
      float* row = sums + r * columns;
      for (int64_t c = 0; c < columns; ++c) row[c] += bias[c];
      kernels.from_f32(row, RowAt(out, first_row + r), out.dtype, columns);
    }
  }

  Context& context_;
};

}  // namespace

std::unique_ptr<LinearKernel> CreateLinear(Context& context) {
  return std::make_unique<CpuLinear>(context);
}

}  // namespace gale::cpu
