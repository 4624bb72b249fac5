// The GGUF file format, versions 2 and 3: typed metadata, then the tensors' descriptions, then
// their bytes. Layer L0, because weights and tokenizers both live in such files.
// Source: docs/gguf.md of github.com/ggml-org/ggml. Nothing in a file is believed before it is
// checked against the file's size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gale/status.h"

namespace gale {

struct GgufTensor {
  std::string_view name;
  std::string_view type_name;  ///< "F32", "Q4_0"
  std::vector<int64_t> shape;  ///< outermost dimension first, as in safetensors
  std::span<const std::byte> data;
};

/// A parsed file; views into the bytes, which must outlive it.
///
/// The accessors of metadata check type and range; their errors are kDataCorrupt and name the file,
/// the key, what was expected and what is there. Integers of every width are one type.
class Gguf {
 public:
  /// `source` names the file in messages.
  /// Errors: kDataCorrupt for anything that breaks the format: truncation, counts and sizes that
  /// pass the file's end, unknown types, text that is not UTF-8, duplicate keys or tensors,
  /// misaligned or overlapping tensors; kUnsupported for version 1, for files of big-endian
  /// machines and for arrays of arrays.
  /// Cost: one pass over the metadata; no tensor byte is touched.
  static Result<Gguf> Parse(std::span<const std::byte> file, std::string source);

  const std::string& source() const { return source_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  ///< in the file's order

  bool Has(std::string_view key) const { return values_.contains(key); }
  Result<bool> Bool(std::string_view key) const;
  Result<int64_t> Int(std::string_view key, int64_t min = std::numeric_limits<int64_t>::min(),
                      int64_t max = std::numeric_limits<int64_t>::max()) const;
  Result<double> Number(std::string_view key) const;  ///< finite; accepts integers too
  Result<std::string_view> String(std::string_view key) const;
  Result<std::vector<std::string_view>> Strings(std::string_view key) const;
  Result<std::vector<double>> Numbers(std::string_view key) const;

  /// The kDataCorrupt error of a key's value: "FILE: llama.block_count: expected ..., got ...".
  Error Wrong(std::string_view key, std::string_view expected) const;

 private:
  friend class GgufParser;

  /// The format's numbers.
  enum class Type : uint32_t {
    kU8,
    kI8,
    kU16,
    kI16,
    kU32,
    kI32,
    kF32,
    kBool,
    kString,
    kArray,
    kU64,
    kI64,
    kF64
  };
  struct Value {
    Type type;  ///< of an array, that of its items
    bool is_array;
    uint64_t count;                    ///< 1 unless it is an array
    std::span<const std::byte> bytes;  ///< strings with their lengths

    std::string Describe() const;  ///< for messages
  };

  static size_t TypeBytes(Type type);  ///< 0 for those whose size varies
  static double NumberAt(const Value& value, size_t index);
  static bool IsInteger(Type type);
  static bool IsNumber(Type type);
  Result<Value> Get(std::string_view key) const;

  std::string source_;
  std::unordered_map<std::string_view, Value> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace gale
