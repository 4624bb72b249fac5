#include "backend/op_checks.h"

#include "backend/logits_edit.h"
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
  if (args.blocks == GgmlType::kNone) CheckRows(args.table);
  if (args.last_tokens) CheckArray(args.last_tokens, DType::kI32, {args.last_tokens.dim(0)});
}

void CheckEditLogitsArgs(const EditLogitsArgs& args) {
  const int64_t rows = args.logits.dim(0);
  const int64_t vocab = args.logits.dim(1);
  const int64_t slots = args.history.dim(0);
  CheckArray(args.logits, DType::kF32, {rows, vocab});
  CheckArray(args.out, DType::kF32, {rows, vocab});
  CheckArray(args.slots, DType::kI32, {rows});
  CheckArray(args.lengths, DType::kI32, {rows});
  CheckArray(args.history, DType::kI32, {slots, args.history.dim(1)});
  CheckArray(args.edits, DType::kI32, {slots, kLogitsEditWords});
  CheckArray(args.allowed, DType::kI32, {slots, (vocab + 31) / 32});
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
  if (args.token_ids) CheckArray(args.token_ids, DType::kI32, {vocab});
  if (args.slots) {
    CheckArray(args.slots, DType::kI32, {rows});
    CheckArray(args.last_tokens, DType::kI32, {args.last_tokens.dim(0)});
  }
  if (args.history) {
    CheckArray(args.history, DType::kI32, {args.last_tokens.dim(0), args.history.dim(1)});
  }
  if (args.rare.top_n_sigma) {
    const RareFilters& rare = args.rare;
    for (const TensorView& view :
         {rare.top_n_sigma, rare.typical_p, rare.xtc_probability, rare.xtc_threshold,
          rare.mirostat_tau, rare.mirostat_eta, rare.mu_out}) {
      CheckArray(view, DType::kF32, {rows});
    }
    CheckArray(rare.mirostat_mu, DType::kF32, {args.last_tokens.dim(0)});
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

void CheckRotateArgs(const RotateArgs& args) {
  const int64_t tokens = args.x.dim(0);
  const int64_t heads = args.x.dim(1);
  CheckActivation(args.x);
  CheckShape(args.x, {tokens, heads, 2 * args.inv_freq.dim(0)});
  CheckArray(args.positions, DType::kI32, {tokens});
  CheckArray(args.inv_freq, DType::kF32, {args.inv_freq.dim(0)});
  CheckArray(args.out, args.x.dtype, {tokens, heads, args.x.dim(2)});
}

void CheckMoeRouteArgs(const MoeRouteArgs& args) {
  const int64_t tokens = args.logits.dim(0);
  const int64_t experts = args.logits.dim(1);
  const int64_t top_k = args.experts.dim(1);
  CheckArray(args.logits, DType::kF32, {tokens, experts});
  if (args.correction) CheckArray(args.correction, DType::kF32, {experts});
  CheckArray(args.experts, DType::kI32, {tokens, top_k});
  CheckArray(args.weights, DType::kF32, {tokens, top_k});
  CheckArray(args.offsets, DType::kI32, {experts + 1});
  CheckArray(args.picks, DType::kI32, {tokens * top_k});
  CheckArray(args.tokens, DType::kI32, {tokens * top_k});
  GALE_CHECK_GE(args.num_groups, 1);
  GALE_CHECK_EQ(experts % args.num_groups, 0);
  GALE_CHECK_GE(args.top_groups, 1);
  GALE_CHECK_LE(args.top_groups, args.num_groups);
  GALE_CHECK_GE(args.group_top, 1);
  GALE_CHECK_LE(args.group_top, experts / args.num_groups);
  GALE_CHECK_GE(top_k, 1);
  GALE_CHECK_LE(top_k, args.top_groups * (experts / args.num_groups));
}

void CheckMoeCombineArgs(const MoeCombineArgs& args) {
  const int64_t tokens = args.out.dim(0);
  const int64_t hidden = args.out.dim(1);
  CheckActivation(args.out);
  CheckRows(args.out);
  CheckArray(args.weights, DType::kF32, {tokens, args.weights.dim(1)});
  CheckArray(args.x, args.out.dtype, {tokens * args.weights.dim(1), hidden});
  if (args.shared) CheckArray(args.shared, args.out.dtype, {tokens, hidden});
  if (args.shared_gate) {
    GALE_CHECK(args.shared);
    CheckArray(args.shared_gate, DType::kF32, {tokens, 1});
  }
}

void CheckLinearArgs(const LinearArgs& args) {
  const PackedLinear& weight = *args.weight;
  const int64_t rows = args.x.dim(0);
  CheckActivation(args.x);
  CheckActivation(args.out);
  CheckShape(args.x, {rows, weight.in});
  CheckShape(args.out, {rows, weight.out});
  if (args.bias) CheckShape(args.bias, {weight.out});
}

void CheckGroupedLinearArgs(const GroupedLinearArgs& args) {
  const int64_t entries = args.out.dim(0);
  const int64_t groups = args.offsets.dim(0) - 1;
  GALE_CHECK_GE(groups, 1);
  CheckActivation(args.x);
  CheckShape(args.x, {args.x.dim(0), args.weight->in});
  CheckArray(args.offsets, DType::kI32, {groups + 1});
  GALE_CHECK_EQ(args.weight->out, groups * args.out.dim(1));
  CheckArray(args.out, args.x.dtype, {entries, args.out.dim(1)});
  if (args.bias) CheckShape(args.bias, {args.weight->out});
  if (args.x_rows) {
    CheckArray(args.x_rows, DType::kI32, {entries});
  } else {
    GALE_CHECK_EQ(args.x.dim(0), entries);
  }
  if (args.out_rows) CheckArray(args.out_rows, DType::kI32, {entries});
}

void CheckBatchedLinearArgs(const BatchedLinearArgs& args) {
  const int64_t rows = args.x.dim(0);
  const int64_t groups = args.x.dim(1);
  CheckActivation(args.x);
  CheckShape(args.x, {rows, groups, args.weight->in});
  CheckArray(args.out, args.x.dtype, {rows, groups, args.out.dim(2)});
  GALE_CHECK_EQ(args.weight->out, groups * args.out.dim(2));
}

void CheckFillRandomArgs(const FillRandomArgs& args) {
  CheckArray(args.table, DType::kF32, {1 << 16});
  CheckActivation(args.out);
  const std::span<const int64_t> dims(args.out.dims.data(), static_cast<size_t>(args.out.rank));
  GALE_CHECK(args.out.strides == TensorView(nullptr, args.out.dtype, dims).strides);
}

}  // namespace gale
