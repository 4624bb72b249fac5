// A typed, strided window on memory that somebody else owns. Layer L1a.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/check.h"
#include "tensor/dtype.h"

namespace gale {

/// Up to four dimensions, slowest first; strides count elements. An empty view (data == nullptr)
/// means "not given" in op arguments.
struct TensorView {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> dims = {};
  std::array<int64_t, kMaxRank> strides = {};

  TensorView() = default;
  /// Contiguous.
  TensorView(void* data_, DType dtype_, std::initializer_list<int64_t> dims_)
      : TensorView(data_, dtype_, std::span<const int64_t>(dims_.begin(), dims_.size())) {}
  TensorView(void* data_, DType dtype_, std::span<const int64_t> dims_)
      : data(data_), dtype(dtype_), rank(static_cast<int>(dims_.size())) {
    GALE_CHECK_LE(rank, kMaxRank);
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; --i) {
      dims[i] = dims_[i];
      strides[i] = stride;
      stride *= dims_[i];
    }
  }

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return dims[i]; }
  int64_t NumElements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  size_t Bytes() const {
    return static_cast<size_t>(NumElements()) * DTypeBytes(dtype);
  }  ///< of the elements alone

  template <class T>
  T* As() const {
    GALE_DCHECK(sizeof(T) == DTypeBytes(dtype));
    return static_cast<T*>(data);
  }

  /// The elements [begin, end) of dimension `axis`; the rest is unchanged.
  TensorView Slice(int axis, int64_t begin, int64_t end) const {
    GALE_CHECK_LE(end, dims[axis]);
    TensorView view = *this;
    view.data =
        static_cast<char*>(data) + begin * strides[axis] * static_cast<int64_t>(DTypeBytes(dtype));
    view.dims[axis] = end - begin;
    return view;
  }
  TensorView Rows(int64_t begin, int64_t end) const { return Slice(0, begin, end); }

  std::string ToString() const;  ///< "bf16 [4, 256]"
};

}  // namespace gale
