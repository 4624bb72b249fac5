// What the two kinds of linear kernels share: the split of y = x * weight^T + bias over rows,
// threads and groups. Layer L1b.
#pragma once

#include <memory>
#include <span>

#include "backend/cpu/ops.h"

namespace gale::cpu {

/// Rows of activations as a kernel reads them.
struct LinearOperand {
  const void* data = nullptr;
  int64_t stride_bytes = 0;  ///< between rows that are read in place; else as packed
};

/// Sums of some rows and columns, in f32.
struct LinearSums {
  float* data = nullptr;
  int64_t stride = 0;
  float* bias = nullptr;  ///< unused memory for one row
};

class CpuLinear : public LinearKernel {
 public:
  explicit CpuLinear(Context& context) : context_(context) {}

  void Run(Stream& stream, const LinearArgs& args) const override;
  void RunGrouped(Stream& stream, const GroupedLinearArgs& args) const override;
  void RunBatched(Stream& stream, const BatchedLinearArgs& args) const override;

 protected:
  /// Rows multiplied at a time: their operand should stay in the last-level cache.
  virtual int64_t RowBlock() const = 0;
  virtual int64_t ColumnsPerTask(int64_t k, int64_t columns, int64_t rows) const = 0;
  /// Floats of scratch for `rows` packed rows. A row that is a multiple of kLinearRowTile begins
  /// PackedFloats(row, k) into them.
  virtual int64_t PackedFloats(int64_t rows, int64_t k) const = 0;
  /// Packs at most kLinearRowTile rows of x, `stride` elements apart.
  virtual void PackRows(const void* x, DType dtype, int64_t stride, int64_t rows, int64_t k,
                        float* packed) const = 0;
  virtual LinearOperand PackedOperand(const float* packed, int64_t k) const = 0;
  /// Whether rows of `x` are read where they lie.
  virtual bool ReadsInPlace(const TensorView& x) const = 0;
  /// Sums of `rows` rows and the weight's outputs [begin, end), in memory of `scratch`.
  virtual LinearSums Multiply(const PackedLinear& weight, const LinearOperand& x, int64_t rows,
                              int64_t begin, int64_t end, Scratch& scratch) const = 0;

  Context& context_;

 private:
  struct GroupBlock;

  /// All of args.out's columns, which are the weight's outputs from `first_output` on, for one
  /// block of rows.
  void RunBlock(const LinearArgs& args, int64_t first_output, int64_t first_row,
                int64_t rows) const;
  LinearOperand Pack(const TensorView& x, int64_t first_row, int64_t rows) const;
  void RunGroupBlocks(const GroupedLinearArgs& args, std::span<const GroupBlock> blocks) const;
  const float* PackEntries(const GroupedLinearArgs& args, std::span<const GroupBlock> blocks) const;
  void RunGroupColumns(const GroupedLinearArgs& args, const GroupBlock& block, const float* packed,
                       int64_t begin, int64_t end, int thread) const;
};

/// Weights [out, in] of any float dtype or ggml's blocks, read where they lie.
std::unique_ptr<LinearKernel> CreateRowLinear(Context& context);
/// Weights packed in panels of bf16, or of any other format, for bf16 activations.
std::unique_ptr<LinearKernel> CreatePanelLinear(Context& context, bool is_bf16);

}  // namespace gale::cpu
