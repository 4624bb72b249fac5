#include "quantize/gguf_file.h"

namespace gale {
namespace {

constexpr uint64_t kAlignment = 32;
enum ValueType : uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9 };

template <class T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string& out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out += text;
}

}  // namespace

void GgufHeader::AddKey(std::string_view key, uint32_t type) {
  AppendString(values_, key);
  Append<uint32_t>(values_, type);
  ++num_values_;
}

void GgufHeader::Add(std::string_view key, std::string_view value) {
  AddKey(key, kString);
  AppendString(values_, value);
}

void GgufHeader::Add(std::string_view key, uint32_t value) {
  AddKey(key, kU32);
  Append(values_, value);
}

void GgufHeader::Add(std::string_view key, float value) {
  AddKey(key, kF32);
  Append(values_, value);
}

void GgufHeader::Add(std::string_view key, bool value) {
  AddKey(key, kBool);
  Append<uint8_t>(values_, value ? 1 : 0);
}

void GgufHeader::Add(std::string_view key, std::span<const std::string> values) {
  AddKey(key, kArray);
  Append<uint32_t>(values_, kString);
  Append<uint64_t>(values_, values.size());
  for (const std::string& value : values) AppendString(values_, value);
}

void GgufHeader::Add(std::string_view key, std::span<const int32_t> values) {
  AddKey(key, kArray);
  Append<uint32_t>(values_, kI32);
  Append<uint64_t>(values_, values.size());
  for (const int32_t value : values) Append(values_, value);
}

void GgufHeader::AddTensor(std::string_view name, std::span<const int64_t> shape, uint32_t type,
                           uint64_t bytes) {
  AppendString(tensors_, name);
  Append<uint32_t>(tensors_, static_cast<uint32_t>(shape.size()));
  for (size_t i = shape.size(); i > 0; --i) {
    Append<uint64_t>(tensors_, static_cast<uint64_t>(shape[i - 1]));
  }
  Append<uint32_t>(tensors_, type);
  Append<uint64_t>(tensors_, offset_);
  offset_ += bytes + Padding(bytes);
  ++num_tensors_;
}

uint64_t GgufHeader::Padding(uint64_t bytes) {
  return (kAlignment - bytes % kAlignment) % kAlignment;
}

std::string GgufHeader::Bytes() const {
  std::string bytes = "GGUF";
  Append<uint32_t>(bytes, 3);
  Append<uint64_t>(bytes, num_tensors_);
  Append<uint64_t>(bytes, num_values_);
  bytes += values_ + tensors_;
  bytes.append(Padding(bytes.size()), '\0');
  return bytes;
}

}  // namespace gale
