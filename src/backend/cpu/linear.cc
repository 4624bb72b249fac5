// y = x * weight^T + bias for any number of rows, with the weight where it lies: nothing is packed
// at load, so a mapped checkpoint is used in place.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

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
    CheckLinearArgs(args);
    const int64_t rows = args.x.dim(0);
    for (int64_t row = 0; row < rows; row += kRowBlock) {
      RunBlock(args, row, std::min(kRowBlock, rows - row));
    }
  }

  void RunGrouped(Stream&, const GroupedLinearArgs& args) const override {
    const std::lock_guard lock(context_.mutex);
    CheckGroupedLinearArgs(args);
    const auto* offsets = args.offsets.As<int32_t>();
    std::vector<GroupBlock> blocks;  // of at most kRowBlock rows together
    int64_t packed_rows = 0;
    for (int64_t group = 0; group + 1 < args.offsets.dim(0); ++group) {
      for (int64_t first = offsets[group]; first < offsets[group + 1]; first += kRowBlock) {
        const int64_t rows = std::min<int64_t>(kRowBlock, offsets[group + 1] - first);
        if (packed_rows + rows > kRowBlock) {
          RunGroupBlocks(args, blocks);
          blocks.clear();
          packed_rows = 0;
        }
        blocks.push_back({group, first, rows, packed_rows});
        packed_rows += (rows + kLinearRowTile - 1) / kLinearRowTile * kLinearRowTile;
      }
    }
    RunGroupBlocks(args, blocks);
  }

  void RunBatched(Stream&, const BatchedLinearArgs& args) const override {
    const std::lock_guard lock(context_.mutex);
    CheckBatchedLinearArgs(args);
    const int64_t columns = args.out.dim(2);
    PackedLinear weight;
    weight.format = args.weight->format;
    weight.in = args.weight->in;
    weight.out = columns;
    const auto rows_of = [](const TensorView& view, int64_t group) {
      TensorView rows = view.Slice(1, group, group + 1);
      rows.rank = 2;
      rows.dims[1] = view.dims[2];
      rows.strides[1] = view.strides[2];
      return rows;
    };
    for (int64_t group = 0; group < args.x.dim(1); ++group) {
      weight.data = args.weight->data.Rows(group * columns, (group + 1) * columns);
      const LinearArgs one{.x = rows_of(args.x, group),
                           .weight = &weight,
                           .bias = {},
                           .out = rows_of(args.out, group)};
      for (int64_t row = 0; row < args.x.dim(0); row += kRowBlock) {
        RunBlock(one, row, std::min(kRowBlock, args.x.dim(0) - row));
      }
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

  /// [rows, columns of `weight`] sums; many rows share one conversion of the weights to f32, for
  /// which `converted` has ConvertedFloats.
  void Multiply(const TensorView& weight, GgmlType blocks, const float* x, int64_t rows,
                float* converted, float* out, int64_t out_stride) const {
    const int64_t k = weight.dim(1);
    LinearBlock block{.x = x,
                      .rows = rows,
                      .k = k,
                      .weight = weight.data,
                      .weight_dtype = weight.dtype,
                      .blocks = blocks,
                      .weight_stride = blocks == GgmlType::kNone ? weight.strides[0] : k,
                      .cols = weight.dim(0),
                      .out = out,
                      .out_stride = out_stride};
    if (ConvertedFloats(weight, rows) > 0) {
      for (int64_t c = 0; c < weight.dim(0); ++c) {
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
  }

  static int64_t ConvertedFloats(const TensorView& weight, int64_t rows) {
    const bool convert = weight.dtype != DType::kF32 && rows >= kConvertRows;
    return convert ? weight.NumElements() : 0;
  }

  /// Adds the bias (empty: none) to each row of sums and stores it at out_row(row).
  template <class OutRow>
  void Store(float* sums, int64_t rows, int64_t columns, const TensorView& bias, float* bias_f32,
             DType dtype, OutRow&& out_row) const {
    if (bias) {
      context_.kernels.to_f32(bias.data, bias.dtype, bias_f32, columns);
    } else {
      std::fill_n(bias_f32, columns, 0.0F);
    }
    for (int64_t r = 0; r < rows; ++r) {
      float* row = sums + r * columns;
      for (int64_t c = 0; c < columns; ++c) row[c] += bias_f32[c];
      context_.kernels.from_f32(row, out_row(r), dtype, columns);
    }
  }

  void RunColumns(const LinearArgs& args, const float* x, int64_t first_row, int64_t rows,
                  int64_t begin, int64_t end, int thread) const {
    const TensorView weight = args.weight->data.Rows(begin, end);
    const int64_t columns = end - begin;
    Scratch& scratch = context_.thread_scratch[static_cast<size_t>(thread)];
    float* sums = scratch.Floats((rows + 1) * columns + ConvertedFloats(weight, rows));
    float* bias = sums + rows * columns;
    float* converted = bias + columns;
    const TensorView out = args.out.Slice(1, begin, end);
    if (args.out.dtype == DType::kF32 && !args.bias) {
      Multiply(weight, args.weight->format.ggml, x, rows, converted,
               static_cast<float*>(RowAt(out, first_row)), out.strides[0]);
      return;
    }
    Multiply(weight, args.weight->format.ggml, x, rows, converted, sums, columns);
    Store(sums, rows, columns, args.bias ? args.bias.Slice(0, begin, end) : TensorView(), bias,
          out.dtype, [&](int64_t r) { return RowAt(out, first_row + r); });
  }

  /// Entries of one group whose rows are packed together.
  struct GroupBlock {
    int64_t group = 0;
    int64_t first = 0;  ///< entry
    int64_t rows = 0;
    int64_t packed_row = 0;  ///< a multiple of kLinearRowTile
  };

  void RunGroupBlocks(const GroupedLinearArgs& args, std::span<const GroupBlock> blocks) const {
    if (blocks.empty()) return;
    const int64_t columns = args.out.dim(1);
    const auto num_blocks = static_cast<int64_t>(blocks.size());
    const float* packed = PackEntries(args, blocks);
    const int64_t step =
        ColumnsPerTask(args.weight->in, columns * num_blocks, context_.pool.threads());
    const int64_t steps = (columns + step - 1) / step;
    context_.pool.ParallelFor(num_blocks * steps, [&](int64_t task, int thread) {
      const int64_t begin = task % steps * step;
      RunGroupColumns(args, blocks[static_cast<size_t>(task / steps)], packed, begin,
                      std::min(begin + step, columns), thread);
    });
  }

  const float* PackEntries(const GroupedLinearArgs& args,
                           std::span<const GroupBlock> blocks) const {
    const CpuKernels& kernels = context_.kernels;
    const int64_t k = args.weight->in;
    const size_t row_bytes = static_cast<size_t>(k) * DTypeBytes(args.x.dtype);
    const GroupBlock& last = blocks.back();
    float* packed =
        context_.shared_scratch.Floats(kernels.packed_size(last.packed_row + last.rows, k));
    context_.pool.ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t i, int thread) {
      const GroupBlock& block = blocks[static_cast<size_t>(i)];
      auto* tile = reinterpret_cast<char*>(
          context_.thread_scratch[static_cast<size_t>(thread)].Floats(kLinearRowTile * k));
      for (int64_t row = 0; row < block.rows; row += kLinearRowTile) {
        const int64_t rows = std::min(kLinearRowTile, block.rows - row);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t entry = block.first + row + r;
          std::memcpy(tile + static_cast<size_t>(r) * row_bytes,
                      RowAt(args.x, MappedRow(args.x_rows, entry)), row_bytes);
        }
        kernels.pack_rows(tile, args.x.dtype, k, rows, k,
                          packed + kernels.packed_size(block.packed_row + row, k));
      }
    });
    return packed;
  }

  static int64_t MappedRow(const TensorView& map, int64_t entry) {
    return map ? map.As<int32_t>()[entry] : entry;
  }

  void RunGroupColumns(const GroupedLinearArgs& args, const GroupBlock& block, const float* packed,
                       int64_t begin, int64_t end, int thread) const {
    const int64_t first = block.group * args.out.dim(1) + begin;
    const int64_t columns = end - begin;
    const TensorView weight = args.weight->data.Rows(first, first + columns);
    Scratch& scratch = context_.thread_scratch[static_cast<size_t>(thread)];
    float* sums = scratch.Floats((block.rows + 1) * columns + ConvertedFloats(weight, block.rows));
    float* bias = sums + block.rows * columns;
    Multiply(weight, args.weight->format.ggml,
             packed + context_.kernels.packed_size(block.packed_row, args.weight->in), block.rows,
             bias + columns, sums, columns);
    const TensorView out = args.out.Slice(1, begin, end);
    Store(sums, block.rows, columns,
          args.bias ? args.bias.Slice(0, first, first + columns) : TensorView(), bias, out.dtype,
          [&](int64_t r) { return RowAt(out, MappedRow(args.out_rows, block.first + r)); });
  }

  Context& context_;
};

}  // namespace

std::unique_ptr<LinearKernel> CreateLinear(Context& context) {
  return std::make_unique<CpuLinear>(context);
}

}  // namespace gale::cpu
