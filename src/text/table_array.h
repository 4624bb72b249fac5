// The arrays under text/'s tables, which come from a model's files or from the load cache.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/mapped_file.h"

namespace gale::text {

/// An array of fixed size: its own, or a part of a mapped file that stays mapped as long. Movable;
/// of what is moved from nothing is left to use.
template <class T>
class TableArray {
 public:
  using value_type = T;

  TableArray() = default;
  TableArray(size_t size, const T& value) : own_(size, value), view_(own_) {}
  TableArray(std::span<const T> part, std::shared_ptr<const MappedFile> file)
      : view_(part), file_(std::move(file)) {}
  TableArray(TableArray&&) = default;
  TableArray& operator=(TableArray&&) = default;

  const T& operator[](size_t i) const { return view_[i]; }
  /// Of arrays that are no part of a file.
  T& Mutable(size_t i) { return own_[i]; }
  size_t size() const { return view_.size(); }
  const T* data() const { return view_.data(); }
  auto begin() const { return view_.begin(); }
  auto end() const { return view_.end(); }

 private:
  std::vector<T> own_;
  std::span<const T> view_;
  std::shared_ptr<const MappedFile> file_;
};

}  // namespace gale::text
