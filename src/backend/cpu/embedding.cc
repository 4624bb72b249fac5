// Row look-ups: token embeddings and the rows that need logits.
#include <cstring>

#include "backend/cpu/ops.h"

namespace gale::cpu {
namespace {

void CopyRow(Context& context, const TensorView& src, int64_t src_row, const TensorView& dst,
             int64_t dst_row, int thread) {
  const int64_t n = dst.dim(1);
  if (src.dtype == dst.dtype) {
    std::memcpy(RowAt(dst, dst_row), RowAt(src, src_row),
                static_cast<size_t>(n) * DTypeBytes(src.dtype));
    return;
  }
  float* row = context.thread_scratch[static_cast<size_t>(thread)].Floats(n);
  context.kernels.to_f32(RowAt(src, src_row), src.dtype, row, n);
  context.kernels.from_f32(row, RowAt(dst, dst_row), dst.dtype, n);
}

void LookUp(Context& context, const TensorView& table, const TensorView& rows,
            const TensorView& out) {
  const int64_t n = rows.dim(0);
  CheckDType(rows, DType::kI32);
  CheckActivation(out);
  CheckShape(rows, {n});
  CheckShape(out, {n, table.dim(1)});
  CheckRows(table);
  const auto* ids = rows.As<int32_t>();
  ForRows(context, n, table.dim(1), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      GALE_CHECK_GE(ids[i], 0);
      GALE_CHECK_LT(ids[i], table.dim(0));
      CopyRow(context, table, ids[i], out, i, thread);
    }
  });
}

}  // namespace

void Embedding(Context& context, const EmbeddingArgs& args) {
  LookUp(context, args.table, args.tokens, args.out);
}

void GatherRows(Context& context, const GatherRowsArgs& args) {
  LookUp(context, args.x, args.rows, args.out);
}

}  // namespace gale::cpu
