#include "weights/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/json.h"
#include "base/status_macros.h"

namespace gale {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxDepth = 4;                    // header > tensor > shape, and one to spare
constexpr size_t kMaxRank = 16;

struct FileDType {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;
};
constexpr std::array kFileDTypes = {
    FileDType{"F32", 32, DType::kF32},
    FileDType{"F16", 16, DType::kF16},
    FileDType{"BF16", 16, DType::kBf16},
    FileDType{"I8", 8, DType::kI8},
    FileDType{"U8", 8, DType::kU8},
    FileDType{"I32", 32, DType::kI32},
    FileDType{"I64", 64, DType::kI64},
    FileDType{"U64", 64, DType::kU64},
    FileDType{"BOOL", 8, {}},
    FileDType{"I16", 16, {}},
    FileDType{"U16", 16, {}},
    FileDType{"U32", 32, {}},
    FileDType{"F64", 64, {}},
    FileDType{"C64", 64, {}},
    FileDType{"F8_E4M3", 8, DType::kF8E4M3},
    FileDType{"F8_E5M2", 8, {}},
    FileDType{"F8_E8M0", 8, {}},
    FileDType{"F8_E4M3FNUZ", 8, {}},
    FileDType{"F8_E5M2FNUZ", 8, {}},
    FileDType{"F6_E2M3", 6, {}},
    FileDType{"F6_E3M2", 6, {}},
    FileDType{"F4", 4, {}},
};

Result<FileDType> ParseDType(const JsonObject& tensor) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, tensor.Get("dtype"));
  GALE_ASSIGN_OR_RETURN(const std::string_view name, value.String());
  for (const FileDType& known : kFileDTypes) {
    if (known.name == name) return known;
  }
  return tl::unexpected(value.Wrong("a safetensors element type such as \"F32\" or \"BF16\""));
}

Result<std::vector<int64_t>> ParseShape(const JsonObject& tensor) {
  GALE_ASSIGN_OR_RETURN(const JsonValue value, tensor.Get("shape"));
  GALE_ASSIGN_OR_RETURN(const auto items, value.Items());
  if (items.size() > kMaxRank) {
    return tl::unexpected(value.Wrong(fmt::format("at most {} dimensions", kMaxRank)));
  }
  std::vector<int64_t> shape;
  for (const JsonValue& item : items) {
    GALE_ASSIGN_OR_RETURN(shape.emplace_back(), item.Int(0));
  }
  return shape;
}

/// Bytes of a tensor; nothing when the product passes 2^63 bits or is no whole number of bytes.
std::optional<int64_t> TensorBytes(std::span<const int64_t> shape, int bits) {
  int64_t total_bits = bits;
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(total_bits, dim, &total_bits)) return {};
  }
  if (total_bits % 8 != 0) return {};
  return total_bits / 8;
}

Result<CheckpointTensor> ParseEntry(std::string_view name, const JsonValue& value,
                                    std::span<const std::byte> data) {
  GALE_ASSIGN_OR_RETURN(const JsonObject tensor, value.Object());
  CheckpointTensor entry;
  entry.name = name;
  GALE_ASSIGN_OR_RETURN(const FileDType dtype, ParseDType(tensor));
  entry.dtype_name = dtype.name;
  entry.dtype = dtype.dtype;
  GALE_ASSIGN_OR_RETURN(entry.shape, ParseShape(tensor));

  GALE_ASSIGN_OR_RETURN(const JsonValue offsets, tensor.Get("data_offsets"));
  GALE_ASSIGN_OR_RETURN(const auto items, offsets.Items());
  if (items.size() != 2) return tl::unexpected(offsets.Wrong("[begin, end]"));
  const auto data_bytes = static_cast<int64_t>(data.size());
  GALE_ASSIGN_OR_RETURN(const int64_t begin, items[0].Int(0));
  GALE_ASSIGN_OR_RETURN(const int64_t end, items[1].Int(begin));
  if (end > data_bytes) {
    return tl::unexpected(items[1].Wrong(fmt::format(
        "at most {}, the bytes behind the header (is the file truncated?)", data_bytes)));
  }
  const auto bytes = TensorBytes(entry.shape, dtype.bits);
  if (!bytes) {
    return tl::unexpected(
        tensor.Get("shape")->Wrong("dimensions that make whole bytes, under 2^60 of them"));
  }
  if (*bytes != end - begin) {
    return tl::unexpected(
        items[1].Wrong(fmt::format("{} + {}, the bytes of its dtype and shape", begin, *bytes)));
  }
  entry.data = data.subspan(static_cast<size_t>(begin), static_cast<size_t>(*bytes));
  return entry;
}

/// The tensors' bytes must follow one another without gap or overlap, to the end of the file.
Status CheckTiling(std::span<const CheckpointTensor> entries, std::span<const std::byte> data,
                   const std::string& source) {
  const std::byte* expected = data.data();
  for (const CheckpointTensor& entry : entries) {
    if (entry.data.data() != expected) {
      return MakeError(
          ErrorCode::kDataCorrupt,
          fmt::format("{}: {}: expected its bytes at offset {}, got {} ({})", source, entry.name,
                      expected - data.data(), entry.data.data() - data.data(),
                      entry.data.data() < expected ? "tensors overlap" : "a gap"));
    }
    expected = entry.data.data() + entry.data.size();
  }
  const size_t used = static_cast<size_t>(expected - data.data());
  if (used != data.size()) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected {} bytes of tensors, got {} (the rest belongs to "
                                 "no tensor)",
                                 source, used, data.size()));
  }
  return {};
}

}  // namespace

Result<std::vector<CheckpointTensor>> ParseSafetensors(std::span<const std::byte> file,
                                                       const std::string& source) {
  uint64_t header_bytes = 0;
  if (file.size() < kLengthBytes) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a safetensors file of at least {} bytes, got {}",
                                 source, kLengthBytes, file.size()));
  }
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  const uint64_t available = file.size() - kLengthBytes;
  if (header_bytes > std::min(available, kMaxHeaderBytes)) {
    return MakeError(ErrorCode::kDataCorrupt,
                     fmt::format("{}: expected a header of at most {} bytes, got a length of {}; "
                                 "the file is truncated or no safetensors file",
                                 source, std::min(available, kMaxHeaderBytes), header_bytes));
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                                header_bytes);
  const auto data = file.subspan(kLengthBytes + header_bytes);

  GALE_ASSIGN_OR_RETURN(const JsonDocument document,
                        JsonDocument::Parse(header, source, kMaxDepth));
  GALE_ASSIGN_OR_RETURN(const JsonObject root, document.root().Object());
  std::vector<CheckpointTensor> entries;
  GALE_RETURN_IF_ERROR(root.ForEach([&](std::string_view name, const JsonValue& value) -> Status {
    if (name == "__metadata__") return {};
    GALE_ASSIGN_OR_RETURN(entries.emplace_back(), ParseEntry(name, value, data));
    return {};
  }));
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  GALE_RETURN_IF_ERROR(CheckTiling(entries, data, source));
  return entries;
}

}  // namespace gale
