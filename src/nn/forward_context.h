// What a forward pass needs beside its input; passed, never global. Layer L2 of the compute column.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "tensor/tensor_view.h"

namespace gale {

/// Bump allocator for activations: reset before each step.
class ScratchArena {
 public:
  static constexpr size_t kAlignment = 64;  ///< bytes; each Take is rounded up to it

  ScratchArena() = default;
  explicit ScratchArena(Buffer buffer) : buffer_(std::move(buffer)) {}
  /// Contiguous and 64-byte aligned. CHECKs that the plan made at start-up was large enough.
  TensorView Take(DType dtype, std::initializer_list<int64_t> dims);
  /// What Take uses up.
  static size_t Bytes(DType dtype, std::initializer_list<int64_t> dims);
  void Reset(size_t used = 0) { used_ = used; }
  size_t used() const { return used_; }
  size_t capacity() const { return buffer_.bytes(); }

 private:
  Buffer buffer_;
  size_t used_ = 0;
};

/// Gives back, at its end, what was taken since its beginning: what uses that memory next comes
/// later on the stream.
class ScratchScope {
 public:
  explicit ScratchScope(ScratchArena& arena) : arena_(arena), used_(arena.used()) {}
  ~ScratchScope() { arena_.Reset(used_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  ScratchArena& arena_;
  size_t used_;
};

struct ForwardContext {
  Backend* backend = nullptr;
  Stream* stream = nullptr;
  std::vector<AttentionBackend*> attention;  ///< [group], planned for this step
  ScratchArena* scratch = nullptr;
};

}  // namespace gale
