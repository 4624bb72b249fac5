// One flat array of a step: filled on the host, copied to its fixed place on the device. Layer L4.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <utility>

#include "backend/backend.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace gale {

template <class T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>) {
    return DType::kF32;
  } else if constexpr (std::is_same_v<T, int32_t>) {
    return DType::kI32;
  } else {
    static_assert(std::is_same_v<T, uint64_t>);
    return DType::kU64;
  }
}

/// Allocated once for the largest step, so that device addresses are the same in every step.
/// The host side may be refilled once the stream has passed the copy: after the step's synchronize.
template <class T>
class StagedArray {
 public:
  StagedArray() = default;

  static Result<StagedArray> Create(Backend& backend, size_t capacity) {
    StagedArray array;
    array.capacity_ = capacity;
    const size_t bytes = capacity * sizeof(T);
    GALE_ASSIGN_OR_RETURN(array.host_, backend.Allocate(bytes, MemoryKind::kPinnedHost));
    GALE_ASSIGN_OR_RETURN(array.device_, backend.Allocate(bytes, MemoryKind::kDevice));
    return array;
  }

  void Clear() { size_ = 0; }
  void Push(T value) { *Extend(1).data() = value; }
  /// Room for `count` more elements, to be filled by the caller.
  std::span<T> Extend(size_t count) {
    GALE_CHECK_LE(size_ + count, capacity_);
    T* begin = static_cast<T*>(host_.data()) + size_;
    size_ += count;
    return {begin, count};
  }

  size_t size() const { return size_; }
  std::span<T> host() { return {static_cast<T*>(host_.data()), size_}; }
  std::span<const T> host() const { return {static_cast<const T*>(host_.data()), size_}; }

  /// The device side, as `dims`.
  TensorView device(std::initializer_list<int64_t> dims) const {
    TensorView view(device_.data(), DTypeOf<T>(), dims);
    GALE_CHECK_LE(static_cast<size_t>(view.NumElements()), capacity_);
    return view;
  }
  /// Copies what was filled; the view on it, as `dims`.
  TensorView Upload(Backend& backend, Stream& stream, std::initializer_list<int64_t> dims) {
    if (size_ > 0) backend.Copy(stream, device_.data(), host_.data(), size_ * sizeof(T));
    return device(dims);
  }
  /// Copies `count` elements from the device; host() holds them after the stream's synchronize.
  void Download(Backend& backend, Stream& stream, size_t count) {
    GALE_CHECK_LE(count, capacity_);
    size_ = count;
    if (count > 0) backend.Copy(stream, host_.data(), device_.data(), count * sizeof(T));
  }

 private:
  size_t capacity_ = 0;
  size_t size_ = 0;
  Buffer host_;
  Buffer device_;
};

}  // namespace gale
