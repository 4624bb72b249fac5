#include "tensor/tensor_view.h"

#include <fmt/ranges.h>

namespace gale {

std::string TensorView::ToString() const {
  return fmt::format("{} [{}]", DTypeName(dtype),
                     fmt::join(dims.begin(), dims.begin() + rank, ", "));
}

}  // namespace gale
