#include "base/gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/status_macros.h"

namespace gale {
namespace {

constexpr uint64_t kMagicBytes = 4;
constexpr uint32_t kMaxTypeNumber = 12;
constexpr uint32_t kMaxRank = 4;  // of ggml
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = 1 << 20;
// The least that a key with its value, and a tensor's description, take in a file.
constexpr uint64_t kMinValueBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;

/// How tensors store their elements: in blocks along the innermost dimension.
struct ElementType {
  uint32_t number;
  std::string_view name;
  int64_t block_elements, block_bytes;
};
constexpr std::array kElementTypes = {
    ElementType{0, "F32", 1, 4},         ElementType{1, "F16", 1, 2},
    ElementType{2, "Q4_0", 32, 18},      ElementType{3, "Q4_1", 32, 20},
    ElementType{6, "Q5_0", 32, 22},      ElementType{7, "Q5_1", 32, 24},
    ElementType{8, "Q8_0", 32, 34},      ElementType{9, "Q8_1", 32, 36},
    ElementType{10, "Q2_K", 256, 84},    ElementType{11, "Q3_K", 256, 110},
    ElementType{12, "Q4_K", 256, 144},   ElementType{13, "Q5_K", 256, 176},
    ElementType{14, "Q6_K", 256, 210},   ElementType{15, "Q8_K", 256, 292},
    ElementType{16, "IQ2_XXS", 256, 66}, ElementType{17, "IQ2_XS", 256, 74},
    ElementType{18, "IQ3_XXS", 256, 98}, ElementType{19, "IQ1_S", 256, 50},
    ElementType{20, "IQ4_NL", 32, 18},   ElementType{21, "IQ3_S", 256, 110},
    ElementType{22, "IQ2_S", 256, 82},   ElementType{23, "IQ4_XS", 256, 136},
    ElementType{24, "I8", 1, 1},         ElementType{25, "I16", 1, 2},
    ElementType{26, "I32", 1, 4},        ElementType{27, "I64", 1, 8},
    ElementType{28, "F64", 1, 8},        ElementType{29, "IQ1_M", 256, 56},
    ElementType{30, "BF16", 1, 2},       ElementType{34, "TQ1_0", 256, 54},
    ElementType{35, "TQ2_0", 256, 66},   ElementType{39, "MXFP4", 32, 17},
};

/// Bytes of a tensor; nothing when they are over 2^63 or a row is no whole number of blocks.
std::optional<int64_t> TensorBytes(std::span<const int64_t> shape, const ElementType& type) {
  if ((shape.empty() ? 1 : shape.back()) % type.block_elements != 0) return {};
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(elements, dim, &elements)) return {};
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(elements / type.block_elements, type.block_bytes, &bytes)) return {};
  return bytes;
}

template <class T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::string_view TypeName(uint32_t number) {
  constexpr std::array<std::string_view, kMaxTypeNumber + 1> kNames = {
      "uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "boolean", "string", "array",  "uint64", "int64",  "float64"};
  return kNames[number];
}

}  // namespace

/// Walks a file from its front.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> file, std::string source) : file_(file) {
    gguf_.source_ = std::move(source);
  }

  Result<Gguf> Parse() {
    GALE_RETURN_IF_ERROR(ParseVersion());
    GALE_ASSIGN_OR_RETURN(const auto num_tensors, Read<uint64_t>("the number of tensors"));
    GALE_ASSIGN_OR_RETURN(const auto num_values, Read<uint64_t>("the number of metadata keys"));
    GALE_RETURN_IF_ERROR(CheckCount("metadata keys", num_values, kMinValueBytes));
    for (uint64_t i = 0; i < num_values; ++i) GALE_RETURN_IF_ERROR(ParseValue());
    GALE_RETURN_IF_ERROR(ParseAlignment());
    GALE_RETURN_IF_ERROR(CheckCount("tensors", num_tensors, kMinTensorBytes));
    for (uint64_t i = 0; i < num_tensors; ++i) GALE_RETURN_IF_ERROR(ParseTensor());
    GALE_RETURN_IF_ERROR(PlaceTensors());
    return std::move(gguf_);
  }

 private:
  using Type = Gguf::Type;

  /// Where a tensor's bytes are to be found, as the file has it.
  struct Range {
    uint64_t offset;
    int64_t bytes;
  };

  tl::unexpected<Error> Corrupt(const std::string& message) const {
    return MakeError(ErrorCode::kDataCorrupt, fmt::format("{}: {}", gguf_.source_, message));
  }

  uint64_t Remaining() const { return file_.size() - position_; }

  Result<std::span<const std::byte>> Take(uint64_t bytes, std::string_view what) {
    if (bytes > Remaining()) {
      return Corrupt(
          fmt::format("expected {} bytes for {} at offset {}, got {}; the file is "
                      "truncated or damaged",
                      bytes, what, position_, Remaining()));
    }
    const auto taken = file_.subspan(position_, bytes);
    position_ += bytes;
    return taken;
  }

  template <class T>
  Result<T> Read(std::string_view what) {
    GALE_ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T), what));
    return Load<T>(bytes.data());
  }

  Result<std::string_view> ReadString(std::string_view what) {
    GALE_ASSIGN_OR_RETURN(const auto size, Read<uint64_t>(what));
    GALE_ASSIGN_OR_RETURN(const auto bytes, Take(size, what));
    const auto* chars = reinterpret_cast<const char*>(bytes.data());
    if (!simdjson::validate_utf8(chars, bytes.size())) {
      return Corrupt(fmt::format("{}: expected text in UTF-8 at offset {}, got other bytes", what,
                                 position_ - size));
    }
    return std::string_view(chars, bytes.size());
  }

  Status CheckCount(std::string_view what, uint64_t count, uint64_t min_bytes) const {
    if (count <= Remaining() / min_bytes) return {};
    return Corrupt(
        fmt::format("expected at most {} {}, which is what the {} bytes that follow can "
                    "hold, got a count of {}; the file is truncated or damaged",
                    Remaining() / min_bytes, what, Remaining(), count));
  }

  Status ParseVersion() {
    GALE_ASSIGN_OR_RETURN(const auto magic, Take(kMagicBytes, "the word GGUF"));
    if (std::memcmp(magic.data(), "GGUF", kMagicBytes) != 0) {
      return Corrupt("expected the word GGUF in front, got other bytes; this is no GGUF file");
    }
    GALE_ASSIGN_OR_RETURN(const auto version, Read<uint32_t>("the version"));
    if (version == 2 || version == 3) return {};
    return MakeError(
        ErrorCode::kUnsupported,
        fmt::format("{}: expected GGUF version 2 or 3, got {}; {}", gguf_.source_, version,
                    version % 65536 == 0 ? "it was written for a big-endian machine"
                                         : "convert the model again with current tools"));
  }

  Status ParseValue() {
    GALE_ASSIGN_OR_RETURN(const std::string_view key, ReadString("a metadata key"));
    const bool is_printable =
        std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < '\x7f'; });
    if (key.empty() || key.size() > kMaxKeyBytes || !is_printable) {
      return Corrupt(
          fmt::format("expected a metadata key of 1 to {} printable ASCII characters at "
                      "offset {}, got others",
                      kMaxKeyBytes, position_ - key.size()));
    }
    GALE_ASSIGN_OR_RETURN(Type type, ReadType(key));
    Gguf::Value value{type, type == Type::kArray, 1, {}};
    if (value.is_array) {
      GALE_ASSIGN_OR_RETURN(value.type, ReadType(key));
      GALE_ASSIGN_OR_RETURN(value.count, Read<uint64_t>(key));
    }
    if (value.type == Type::kArray) {
      return MakeError(ErrorCode::kUnsupported,
                       fmt::format("{}: {}: expected an array of numbers or texts, got one of "
                                   "arrays (not supported)",
                                   gguf_.source_, key));
    }
    GALE_ASSIGN_OR_RETURN(value.bytes, TakeItems(value, key));
    if (value.type == Type::kBool) {
      const auto is_wrong = [](std::byte b) { return b > std::byte{1}; };
      if (std::any_of(value.bytes.begin(), value.bytes.end(), is_wrong)) {
        return Corrupt(fmt::format("{}: expected a boolean of 0 or 1, got another byte", key));
      }
    }
    if (!gguf_.values_.emplace(key, value).second) {
      return Corrupt(fmt::format("metadata key {} stands twice", key));
    }
    return {};
  }

  Result<Type> ReadType(std::string_view key) {
    GALE_ASSIGN_OR_RETURN(const auto number, Read<uint32_t>(key));
    if (number <= kMaxTypeNumber) return static_cast<Type>(number);
    return Corrupt(
        fmt::format("{}: expected a value type from 0 to {}, got {}", key, kMaxTypeNumber, number));
  }

  Result<std::span<const std::byte>> TakeItems(const Gguf::Value& value, std::string_view key) {
    const uint64_t begin = position_;
    const size_t item_bytes = Gguf::TypeBytes(value.type);
    const size_t min_bytes = value.type == Type::kString ? sizeof(uint64_t) : item_bytes;
    GALE_RETURN_IF_ERROR(CheckCount(fmt::format("items of {}", key), value.count, min_bytes));
    if (value.type != Type::kString) return Take(value.count * item_bytes, key);
    for (uint64_t i = 0; i < value.count; ++i) {
      GALE_RETURN_IF_ERROR(ReadString(key));
    }
    return file_.subspan(begin, position_ - begin);
  }

  Status ParseAlignment() {
    constexpr std::string_view kKey = "general.alignment";
    if (!gguf_.Has(kKey)) return {};
    GALE_ASSIGN_OR_RETURN(alignment_, gguf_.Int(kKey, 1, kMaxAlignment));
    if (alignment_ % 8 != 0) return tl::unexpected(gguf_.Wrong(kKey, "a multiple of 8"));
    return {};
  }

  Status ParseTensor() {
    GALE_ASSIGN_OR_RETURN(const std::string_view name, ReadString("a tensor's name"));
    if (name.empty()) return Corrupt("expected tensors with names, got one without");
    if (!names_.insert(name).second) return Corrupt(fmt::format("tensor {} stands twice", name));
    GALE_ASSIGN_OR_RETURN(const auto rank, Read<uint32_t>(name));
    if (rank > kMaxRank) {
      return Corrupt(
          fmt::format("{}: expected at most {} dimensions, got {}", name, kMaxRank, rank));
    }
    GgufTensor tensor{name, {}, {}, {}};
    for (uint32_t i = 0; i < rank; ++i) {
      GALE_ASSIGN_OR_RETURN(const auto dim, Read<int64_t>(name));
      if (dim < 0) return Corrupt(fmt::format("{}: expected dimensions under 2^63", name));
      tensor.shape.insert(tensor.shape.begin(), dim);  // the file begins with the innermost
    }
    GALE_ASSIGN_OR_RETURN(const auto number, Read<uint32_t>(name));
    const auto type = std::find_if(kElementTypes.begin(), kElementTypes.end(),
                                   [&](const ElementType& t) { return t.number == number; });
    if (type == kElementTypes.end()) {
      return Corrupt(
          fmt::format("{}: expected a known tensor type such as 0 (F32) or 30 (BF16), "
                      "got {}",
                      name, number));
    }
    tensor.type_name = type->name;
    const auto bytes = TensorBytes(tensor.shape, *type);
    if (!bytes) {
      return Corrupt(
          fmt::format("{}: expected rows of whole {} blocks ({} elements) and under "
                      "2^63 bytes in all",
                      name, type->name, type->block_elements));
    }
    GALE_ASSIGN_OR_RETURN(const auto offset, Read<uint64_t>(name));
    if (offset % static_cast<uint64_t>(alignment_) != 0) {
      return Corrupt(fmt::format("{}: expected an offset that is a multiple of {}, got {}", name,
                                 alignment_, offset));
    }
    ranges_.push_back({offset, *bytes});
    gguf_.tensors_.push_back(std::move(tensor));
    return {};
  }

  /// Gaps are allowed, as writers pad as they like; sharing bytes is not.
  Status PlaceTensors() {
    const auto alignment = static_cast<uint64_t>(alignment_);
    const uint64_t begin = std::min((position_ + alignment - 1) / alignment * alignment,
                                    static_cast<uint64_t>(file_.size()));
    const auto data = file_.subspan(begin);
    for (size_t i = 0; i < ranges_.size(); ++i) {
      const auto [offset, bytes] = ranges_[i];
      GgufTensor& tensor = gguf_.tensors_[i];
      if (offset > data.size() || static_cast<uint64_t>(bytes) > data.size() - offset) {
        return Corrupt(
            fmt::format("{}: expected {} bytes at offset {} of the tensors' {}; the "
                        "file is truncated or damaged",
                        tensor.name, bytes, offset, data.size()));
      }
      tensor.data = data.subspan(offset, static_cast<uint64_t>(bytes));
    }
    std::vector<const GgufTensor*> sorted;
    for (const GgufTensor& tensor : gguf_.tensors_) sorted.push_back(&tensor);
    std::sort(sorted.begin(), sorted.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return std::pair(a->data.data(), a->data.size()) < std::pair(b->data.data(), b->data.size());
    });
    for (size_t i = 1; i < sorted.size(); ++i) {
      const GgufTensor& before = *sorted[i - 1];
      if (before.data.data() + before.data.size() > sorted[i]->data.data()) {
        return Corrupt(fmt::format("{} and {}: expected bytes of their own, but they overlap",
                                   before.name, sorted[i]->name));
      }
    }
    return {};
  }

  std::span<const std::byte> file_;
  uint64_t position_ = 0;
  int64_t alignment_ = kDefaultAlignment;
  std::unordered_set<std::string_view> names_;
  std::vector<Range> ranges_;  ///< [tensor]
  Gguf gguf_;
};

Result<Gguf> Gguf::Parse(std::span<const std::byte> file, std::string source) {
  return GgufParser(file, std::move(source)).Parse();
}

Result<bool> Gguf::Bool(std::string_view key) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  if (value.is_array || value.type != Type::kBool) return tl::unexpected(Wrong(key, "a boolean"));
  return value.bytes[0] != std::byte{0};
}

Result<int64_t> Gguf::Int(std::string_view key, int64_t min, int64_t max) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  const auto wrong = [&] {
    return tl::unexpected(Wrong(key, fmt::format("an integer from {} to {}", min, max)));
  };
  if (value.is_array || !IsInteger(value.type)) return wrong();
  const std::byte* from = value.bytes.data();
  int64_t number = 0;
  switch (value.type) {
    case Type::kU8: number = Load<uint8_t>(from); break;
    case Type::kI8: number = Load<int8_t>(from); break;
    case Type::kU16: number = Load<uint16_t>(from); break;
    case Type::kI16: number = Load<int16_t>(from); break;
    case Type::kU32: number = Load<uint32_t>(from); break;
    case Type::kI32: number = Load<int32_t>(from); break;
    case Type::kU64:
      if (Load<uint64_t>(from) > static_cast<uint64_t>(max < 0 ? 0 : max)) return wrong();
      [[fallthrough]];
    default: number = Load<int64_t>(from); break;
  }
  if (number < min || number > max) return wrong();
  return number;
}

Result<double> Gguf::Number(std::string_view key) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  if (value.is_array || !IsNumber(value.type) || !std::isfinite(NumberAt(value, 0))) {
    return tl::unexpected(Wrong(key, "a finite number"));
  }
  return NumberAt(value, 0);
}

Result<std::string_view> Gguf::String(std::string_view key) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  if (value.is_array || value.type != Type::kString) return tl::unexpected(Wrong(key, "a text"));
  return std::string_view(reinterpret_cast<const char*>(value.bytes.data()) + sizeof(uint64_t),
                          value.bytes.size() - sizeof(uint64_t));
}

Result<std::vector<std::string_view>> Gguf::Strings(std::string_view key) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  if (!value.is_array || value.type != Type::kString) {
    return tl::unexpected(Wrong(key, "an array of texts"));
  }
  std::vector<std::string_view> strings;
  strings.reserve(value.count);
  const std::byte* from = value.bytes.data();
  for (uint64_t i = 0; i < value.count; ++i) {
    const auto size = Load<uint64_t>(from);
    strings.emplace_back(reinterpret_cast<const char*>(from) + sizeof(size), size);
    from += sizeof(size) + size;
  }
  return strings;
}

Result<std::vector<double>> Gguf::Numbers(std::string_view key) const {
  GALE_ASSIGN_OR_RETURN(const Value value, Get(key));
  if (!value.is_array || !IsNumber(value.type)) {
    return tl::unexpected(Wrong(key, "an array of numbers"));
  }
  std::vector<double> numbers;
  numbers.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) numbers.push_back(NumberAt(value, i));
  return numbers;
}

Error Gguf::Wrong(std::string_view key, std::string_view expected) const {
  const auto found = values_.find(key);
  const std::string got = found == values_.end() ? "nothing" : found->second.Describe();
  return {ErrorCode::kDataCorrupt,
          fmt::format("{}: {}: expected {}, got {}", source_, key, expected, got)};
}

std::string Gguf::Value::Describe() const {
  const std::string_view name = TypeName(static_cast<uint32_t>(type));
  if (is_array) return fmt::format("an array of {} items of type {}", count, name);
  if (type == Type::kBool) return bytes[0] != std::byte{0} ? "true" : "false";
  if (type == Type::kU64) return fmt::format("{}", Load<uint64_t>(bytes.data()));
  if (IsNumber(type)) return fmt::format("{}", NumberAt(*this, 0));
  constexpr size_t kMaxShown = 40;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(uint64_t),
                              bytes.size() - sizeof(uint64_t));
  return text.size() > kMaxShown ? fmt::format("a text of {} bytes", text.size())
                                 : fmt::format("\"{}\"", text);
}

size_t Gguf::TypeBytes(Type type) {
  switch (type) {
    case Type::kU8:
    case Type::kI8:
    case Type::kBool: return 1;
    case Type::kU16:
    case Type::kI16: return 2;
    case Type::kU32:
    case Type::kI32:
    case Type::kF32: return 4;
    case Type::kU64:
    case Type::kI64:
    case Type::kF64: return 8;
    case Type::kString:
    case Type::kArray: break;
  }
  return 0;
}

double Gguf::NumberAt(const Value& value, size_t index) {
  const std::byte* from = value.bytes.data() + index * TypeBytes(value.type);
  switch (value.type) {
    case Type::kU8: return Load<uint8_t>(from);
    case Type::kI8: return Load<int8_t>(from);
    case Type::kU16: return Load<uint16_t>(from);
    case Type::kI16: return Load<int16_t>(from);
    case Type::kU32: return Load<uint32_t>(from);
    case Type::kI32: return Load<int32_t>(from);
    case Type::kF32: return static_cast<double>(Load<float>(from));
    case Type::kU64: return static_cast<double>(Load<uint64_t>(from));
    case Type::kI64: return static_cast<double>(Load<int64_t>(from));
    case Type::kF64: return Load<double>(from);
    default: return 0;
  }
}

bool Gguf::IsNumber(Type type) {
  return type != Type::kBool && type != Type::kString && type != Type::kArray;
}

bool Gguf::IsInteger(Type type) {
  return IsNumber(type) && type != Type::kF32 && type != Type::kF64;
}

Result<Gguf::Value> Gguf::Get(std::string_view key) const {
  const auto found = values_.find(key);
  if (found != values_.end()) return found->second;
  return MakeError(ErrorCode::kDataCorrupt,
                   fmt::format("{}: {}: missing from the metadata", source_, key));
}

}  // namespace gale
