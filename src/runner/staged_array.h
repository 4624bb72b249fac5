// The arrays of a step that the host fills: side by side in pinned host memory, and copied to fixed
// places on the device. Layer L4.
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

/// One of them, allocated for the largest step, so that device addresses are the same in every
/// step. The host side may be refilled once the device has passed the copy.
template <class T>
class StagedArray {
 public:
  StagedArray() = default;
  StagedArray(void* host, void* device, size_t capacity)
      : host_(static_cast<T*>(host)), device_(static_cast<T*>(device)), capacity_(capacity) {}

  void Clear() { size_ = 0; }
  void Push(T value) { *Extend(1).data() = value; }
  /// Room for `count` more elements, to be filled by the caller.
  std::span<T> Extend(size_t count) {
    GALE_CHECK_LE(size_ + count, capacity_);
    T* begin = host_ + size_;
    size_ += count;
    return {begin, count};
  }

  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  std::span<const T> host() const { return {host_, size_}; }

  /// Elements of the device side from `begin` on, as `dims`.
  TensorView device(std::initializer_list<int64_t> dims, int64_t begin = 0) const {
    TensorView view(device_ + begin, DTypeOf<T>(), dims);
    GALE_CHECK_LE(static_cast<size_t>(begin + view.NumElements()), capacity_);
    return view;
  }
  /// Copies what was filled, and only that.
  void Upload(Backend& backend, Stream& stream) const {
    backend.Copy(stream, device_, host_, size_ * sizeof(T));
  }

 private:
  T* host_ = nullptr;
  T* device_ = nullptr;
  size_t capacity_ = 0;
  size_t size_ = 0;
};

/// Memory for arrays side by side, so that one copy takes them all. One without memory measures how
/// much they take: whoever owns arrays lays them out twice.
class StagedBlock {
 public:
  StagedBlock() = default;

  static Result<StagedBlock> Create(Backend& backend, size_t bytes) {
    StagedBlock block;
    GALE_ASSIGN_OR_RETURN(block.host_, backend.Allocate(bytes, MemoryKind::kPinnedHost));
    GALE_ASSIGN_OR_RETURN(block.device_, backend.Allocate(bytes, MemoryKind::kDevice));
    return block;
  }

  template <class T>
  StagedArray<T> Take(size_t capacity) {
    const size_t offset = bytes_;
    bytes_ += (capacity * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (host_.data() == nullptr) return {};
    GALE_CHECK_LE(bytes_, host_.bytes());
    return {static_cast<char*>(host_.data()) + offset, static_cast<char*>(device_.data()) + offset,
            capacity};
  }

  size_t bytes() const { return bytes_; }  ///< taken so far
  /// Copies all of them as they are.
  void Upload(Backend& backend, Stream& stream) const {
    backend.Copy(stream, device_.data(), host_.data(), bytes_);
  }

 private:
  static constexpr size_t kAlignment = 256;

  size_t bytes_ = 0;
  Buffer host_;
  Buffer device_;
};

}  // namespace gale
