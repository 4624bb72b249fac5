#include "backend/cpu/linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace gale::cpu {
namespace {

/// Adds the bias (empty: none) to each row of sums and stores it at out_row(row).
template <class OutRow>
void Store(const CpuKernels& kernels, const LinearSums& sums, int64_t rows, int64_t columns,
           const TensorView& bias, DType dtype, OutRow&& out_row) {
  if (bias) kernels.to_f32(bias.data, bias.dtype, sums.bias, columns);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = sums.data + r * sums.stride;
    if (bias) {
      for (int64_t c = 0; c < columns; ++c) row[c] += sums.bias[c];
    }
    kernels.from_f32(row, out_row(r), dtype, columns);
  }
}

int64_t MappedRow(const TensorView& map, int64_t entry) {
  return map ? map.As<int32_t>()[entry] : entry;
}

}  // namespace

/// Entries of one group whose rows are packed together.
struct CpuLinear::GroupBlock {
  int64_t group = 0;
  int64_t first = 0;  ///< entry
  int64_t rows = 0;
  int64_t packed_row = 0;  ///< a multiple of kLinearRowTile
};

void CpuLinear::Run(Stream&, const LinearArgs& args) const {
  const std::lock_guard lock(context_.mutex);
  CheckLinearArgs(args);
  const int64_t rows = args.x.dim(0);
  for (int64_t row = 0; row < rows; row += RowBlock()) {
    RunBlock(args, 0, row, std::min(RowBlock(), rows - row));
  }
}

void CpuLinear::RunGrouped(Stream&, const GroupedLinearArgs& args) const {
  const std::lock_guard lock(context_.mutex);
  CheckGroupedLinearArgs(args);
  const auto* offsets = args.offsets.As<int32_t>();
  std::vector<GroupBlock> blocks;  // of at most RowBlock() rows together
  int64_t packed_rows = 0;
  for (int64_t group = 0; group + 1 < args.offsets.dim(0); ++group) {
    for (int64_t first = offsets[group]; first < offsets[group + 1]; first += RowBlock()) {
      const int64_t rows = std::min<int64_t>(RowBlock(), offsets[group + 1] - first);
      if (packed_rows + rows > RowBlock()) {
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

void CpuLinear::RunBatched(Stream&, const BatchedLinearArgs& args) const {
  const std::lock_guard lock(context_.mutex);
  CheckBatchedLinearArgs(args);
  const auto rows_of = [](const TensorView& view, int64_t group) {
    TensorView rows = view.Slice(1, group, group + 1);
    rows.rank = 2;
    rows.dims[1] = view.dims[2];
    rows.strides[1] = view.strides[2];
    return rows;
  };
  for (int64_t group = 0; group < args.x.dim(1); ++group) {
    const LinearArgs one{.x = rows_of(args.x, group),
                         .weight = args.weight,
                         .bias = {},
                         .out = rows_of(args.out, group)};
    for (int64_t row = 0; row < args.x.dim(0); row += RowBlock()) {
      RunBlock(one, group * args.out.dim(2), row, std::min(RowBlock(), args.x.dim(0) - row));
    }
  }
}

void CpuLinear::RunBlock(const LinearArgs& args, int64_t first_output, int64_t first_row,
                         int64_t rows) const {
  const int64_t columns = args.out.dim(1);
  const int64_t step = ColumnsPerTask(args.weight->in, columns, rows);
  const LinearOperand x = Pack(args.x, first_row, rows);
  context_.pool.ParallelFor((columns + step - 1) / step, [&](int64_t task, int thread) {
    const int64_t begin = task * step;
    const int64_t end = std::min(begin + step, columns);
    const LinearSums sums =
        Multiply(*args.weight, x, rows, first_output + begin, first_output + end,
                 context_.thread_scratch[static_cast<size_t>(thread)]);
    const TensorView out = args.out.Slice(1, begin, end);
    Store(context_.kernels, sums, rows, end - begin,
          args.bias ? args.bias.Slice(0, begin, end) : TensorView(), out.dtype,
          [&](int64_t r) { return RowAt(out, first_row + r); });
  });
}

LinearOperand CpuLinear::Pack(const TensorView& x, int64_t first_row, int64_t rows) const {
  if (ReadsInPlace(x)) {
    return {RowAt(x, first_row), x.strides[0] * static_cast<int64_t>(DTypeBytes(x.dtype))};
  }
  const int64_t k = x.dim(1);
  float* packed = context_.shared_scratch.Floats(PackedFloats(rows, k));
  const int64_t tiles = (rows + kLinearRowTile - 1) / kLinearRowTile;
  ForRows(context_, tiles, kLinearRowTile * k, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin * kLinearRowTile; row < std::min(end * kLinearRowTile, rows);
         row += kLinearRowTile) {
      PackRows(RowAt(x, first_row + row), x.dtype, x.strides[0],
               std::min(kLinearRowTile, rows - row), k, packed + PackedFloats(row, k));
    }
  });
  return PackedOperand(packed, k);
}

void CpuLinear::RunGroupBlocks(const GroupedLinearArgs& args,
                               std::span<const GroupBlock> blocks) const {
  if (blocks.empty()) return;
  const int64_t columns = args.out.dim(1);
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  const float* packed = PackEntries(args, blocks);
  const int64_t rows = blocks.back().packed_row + blocks.back().rows;
  const int64_t step = ColumnsPerTask(args.weight->in, columns * num_blocks, rows / num_blocks);
  const int64_t steps = (columns + step - 1) / step;
  context_.pool.ParallelFor(num_blocks * steps, [&](int64_t task, int thread) {
    const int64_t begin = task % steps * step;
    RunGroupColumns(args, blocks[static_cast<size_t>(task / steps)], packed, begin,
                    std::min(begin + step, columns), thread);
  });
}

const float* CpuLinear::PackEntries(const GroupedLinearArgs& args,
                                    std::span<const GroupBlock> blocks) const {
  const int64_t k = args.weight->in;
  const size_t row_bytes = static_cast<size_t>(k) * DTypeBytes(args.x.dtype);
  const GroupBlock& last = blocks.back();
  float* packed = context_.shared_scratch.Floats(PackedFloats(last.packed_row + last.rows, k));
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
      PackRows(tile, args.x.dtype, k, rows, k, packed + PackedFloats(block.packed_row + row, k));
    }
  });
  return packed;
}

void CpuLinear::RunGroupColumns(const GroupedLinearArgs& args, const GroupBlock& block,
                                const float* packed, int64_t begin, int64_t end, int thread) const {
  const int64_t first = block.group * args.out.dim(1) + begin;
  const int64_t columns = end - begin;
  const int64_t k = args.weight->in;
  const LinearSums sums = Multiply(
      *args.weight, PackedOperand(packed + PackedFloats(block.packed_row, k), k), block.rows, first,
      first + columns, context_.thread_scratch[static_cast<size_t>(thread)]);
  const TensorView out = args.out.Slice(1, begin, end);
  Store(context_.kernels, sums, block.rows, columns,
        args.bias ? args.bias.Slice(0, first, first + columns) : TensorView(), out.dtype,
        [&](int64_t r) { return RowAt(out, MappedRow(args.out_rows, block.first + r)); });
}

}  // namespace gale::cpu
