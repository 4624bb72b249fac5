#include "backend/cpu/ops.h"

#include <cstdlib>
#include <new>

namespace gale::cpu {

void Scratch::Free::operator()(void* p) const { std::free(p); }

float* Scratch::Floats(int64_t n) {
  if (n > capacity_) {
    constexpr int64_t kLine = 64;
    const int64_t bytes = (n * static_cast<int64_t>(sizeof(float)) + kLine - 1) / kLine * kLine;
    data_.reset();
    data_.reset(std::aligned_alloc(kLine, static_cast<size_t>(bytes)));
    if (data_ == nullptr) throw std::bad_alloc();
    capacity_ = n;
  }
  return static_cast<float*>(data_.get());
}

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

void CheckActivation(const TensorView& view) {
  if (view.dtype != DType::kF32) CheckDType(view, DType::kBf16);
}

}  // namespace gale::cpu
