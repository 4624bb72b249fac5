#include "nn/forward_context.h"

#include "base/check.h"

namespace gale {

TensorView ScratchArena::Take(DType dtype, std::initializer_list<int64_t> dims) {
  const TensorView view(static_cast<char*>(buffer_.data()) + used_, dtype, dims);
  used_ += Bytes(dtype, dims);
  GALE_CHECK_LE(used_, buffer_.bytes());
  return view;
}

size_t ScratchArena::Bytes(DType dtype, std::initializer_list<int64_t> dims) {
  return (TensorView(nullptr, dtype, dims).Bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace gale
