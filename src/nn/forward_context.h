// What a forward pass needs beside its input; passed, never global. Layer L2 of the compute column.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Bump allocator for activations: reset before each step, never freed in between.
class ScratchArena {
 public:
  static constexpr size_t kAlignment = 64;  ///< bytes; each Take is rounded up to it

  ScratchArena() = default;
  explicit ScratchArena(Buffer buffer) : buffer_(std::move(buffer)) {}
  /// Contiguous and 64-byte aligned. CHECKs that the plan made at start-up was large enough.
  TensorView Take(DType dtype, std::initializer_list<int64_t> dims);
  void Reset() { used_ = 0; }
  size_t used() const { return used_; }
  size_t capacity() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
  size_t used_ = 0;
};

struct ForwardContext {
  Backend* backend = nullptr;
  Stream* stream = nullptr;
  std::vector<AttentionBackend*> attention;  ///< [group], planned for this step
  ScratchArena* scratch = nullptr;
};

}  // namespace gale
