#include "backend/op_checks.h"

#include "base/check.h"

namespace gale {

void CheckRows(const TensorView& view) {
  GALE_CHECK_GE(view.rank, 1);
  if (view.dims[view.rank - 1] > 1) GALE_CHECK_EQ(view.strides[view.rank - 1], 1);
}

void CheckShape(const TensorView& view, std::initializer_list<int64_t> dims) {
  const TensorView want(nullptr, view.dtype, dims);
  const bool same = view.rank == want.rank && view.dims == want.dims;
  if (!same) GALE_CHECK_EQ(view.ToString(), want.ToString());
  CheckRows(view);
}

void CheckDType(const TensorView& view, DType dtype) {
  GALE_CHECK_EQ(DTypeName(view.dtype), DTypeName(dtype));
}

void CheckArray(const TensorView& view, DType dtype, std::initializer_list<int64_t> dims) {
  CheckDType(view, dtype);
  CheckShape(view, dims);
}

void CheckActivation(const TensorView& view) {
  if (view.dtype != DType::kF32) CheckDType(view, DType::kBf16);
}

void CheckEmbeddingArgs(const EmbeddingArgs& args) {
  const int64_t tokens = args.tokens.dim(0);
  CheckArray(args.tokens, DType::kI32, {tokens});
  CheckActivation(args.out);
  CheckShape(args.out, {tokens, args.table.dim(1)});
  CheckRows(args.table);
  if (args.last_tokens) CheckArray(args.last_tokens, DType::kI32, {args.last_tokens.dim(0)});
}

void CheckSampleArgs(const SampleArgs& args) {
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  GALE_CHECK_GE(vocab, 1);
  CheckArray(args.logits, DType::kF32, {rows, vocab});
  CheckArray(args.temperature, DType::kF32, {rows});
  CheckArray(args.top_k, DType::kI32, {rows});
  CheckArray(args.top_p, DType::kF32, {rows});
  CheckArray(args.min_p, DType::kF32, {rows});
  CheckArray(args.seed, DType::kU64, {rows});
  CheckArray(args.counter, DType::kU64, {rows, 2});
  CheckArray(args.out, DType::kI32, {rows});
  if (args.bitmask) CheckArray(args.bitmask, DType::kI32, {rows, (vocab + 31) / 32});
  if (args.slots) {
    CheckArray(args.slots, DType::kI32, {rows});
    CheckArray(args.last_tokens, DType::kI32, {args.last_tokens.dim(0)});
  }
}

void CheckLogprobsArgs(const LogprobsArgs& args) {
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t k = args.top_ids ? args.top_ids.dim(1) : 0;
  CheckArray(args.logits, DType::kF32, {rows, vocab});
  CheckArray(args.tokens, DType::kI32, {rows});
  CheckArray(args.chosen, DType::kF32, {rows});
  GALE_CHECK_LE(k, vocab);
  if (k > 0) {
    CheckArray(args.top_ids, DType::kI32, {rows, k});
    CheckArray(args.top_logprobs, DType::kF32, {rows, k});
  }
}

void CheckFillRandomArgs(const FillRandomArgs& args) {
  CheckArray(args.table, DType::kF32, {1 << 16});
  CheckActivation(args.out);
  const std::span<const int64_t> dims(args.out.dims.data(), static_cast<size_t>(args.out.rank));
  GALE_CHECK(args.out.strides == TensorView(nullptr, args.out.dtype, dims).strides);
}

}  // namespace gale
