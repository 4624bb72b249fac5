#include "nn/forward_context.h"

#include "base/check.h"

namespace gale {

TensorView ScratchArena::Take(DType dtype, std::initializer_list<int64_t> dims) {
  TensorView view(static_cast<char*>(buffer_.data()) + used_, dtype, dims);
  used_ += (view.Bytes() + kAlignment - 1) / kAlignment * kAlignment;
  GALE_CHECK_LE(used_, buffer_.bytes());
  return view;
}

}  // namespace gale
