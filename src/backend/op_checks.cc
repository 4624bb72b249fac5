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

}  // namespace gale
