// Row look-ups: token embeddings and the rows that need logits.
#include <cstring>

#include "backend/cpu/ops.h"
#include "tensor/ggml_block.h"

namespace gale::cpu {
namespace {

void CopyRow(Context& context, const EmbeddingArgs& args, int64_t src_row, int64_t dst_row,
             int thread) {
  const TensorView& src = args.table;
  const TensorView& dst = args.out;
  const int64_t n = dst.dim(1);
  const bool is_plain = args.blocks == GgmlType::kNone;
  if (is_plain && src.dtype == dst.dtype && args.scale == 1) {
    std::memcpy(RowAt(dst, dst_row), RowAt(src, src_row),
                static_cast<size_t>(n) * DTypeBytes(src.dtype));
    return;
  }
  float* row = context.thread_scratch[static_cast<size_t>(thread)].Floats(n);
  if (is_plain) {
    context.kernels.to_f32(RowAt(src, src_row), src.dtype, row, n);
  } else {
    DequantizeBlocks(args.blocks, static_cast<const std::byte*>(RowAt(src, src_row)),
                     {row, static_cast<size_t>(n)});
  }
  for (int64_t i = 0; i < n; ++i) row[i] *= args.scale;
  context.kernels.from_f32(row, RowAt(dst, dst_row), dst.dtype, n);
}

}  // namespace

void Embedding(Context& context, const EmbeddingArgs& args) {
  CheckEmbeddingArgs(args);
  const auto* ids = args.tokens.As<int32_t>();
  ForRows(context, args.tokens.dim(0), args.table.dim(1),
          [&](int64_t begin, int64_t end, int thread) {
            for (int64_t i = begin; i < end; ++i) {
              int32_t id = ids[i];
              if (id < 0) {
                GALE_CHECK_LT(~id, args.last_tokens.dim(0));
                id = args.last_tokens.As<int32_t>()[~id];
              }
              GALE_CHECK_GE(id, 0);
              GALE_CHECK_LT(id, args.table.dim(0));
              CopyRow(context, args, id, i, thread);
            }
          });
}

/// A look-up like the other, of activations.
void GatherRows(Context& context, const GatherRowsArgs& args) {
  Embedding(context, {.tokens = args.rows, .table = args.x, .out = args.out});
}

}  // namespace gale::cpu
