// A GGUF file being written: metadata and descriptions first, then the tensors one after another.
// Source: docs/gguf.md of github.com/ggml-org/ggml.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gale {

class GgufHeader {
 public:
  void Add(std::string_view key, std::string_view value);
  void Add(std::string_view key, uint32_t value);
  void Add(std::string_view key, float value);
  void Add(std::string_view key, bool value);
  void Add(std::string_view key, std::span<const std::string> values);
  void Add(std::string_view key, std::span<const int32_t> values);
  /// `shape` outermost first; `type` is ggml's number of the tensor's type.
  void AddTensor(std::string_view name, std::span<const int64_t> shape, uint32_t type,
                 uint64_t bytes);

  /// All of the file in front of the first tensor's bytes.
  std::string Bytes() const;
  /// Bytes of zeros behind a tensor of `bytes`.
  static uint64_t Padding(uint64_t bytes);

 private:
  void AddKey(std::string_view key, uint32_t type);

  std::string values_;
  std::string tensors_;
  uint64_t num_values_ = 0;
  uint64_t num_tensors_ = 0;
  uint64_t offset_ = 0;
};

}  // namespace gale
