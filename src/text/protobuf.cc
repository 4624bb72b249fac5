#include "text/protobuf.h"

namespace gale::text {

bool ProtobufReader::Next(ProtobufField* field) {
  if (!ok_ || rest_.empty()) return false;
  ok_ = Read(field);
  return ok_;
}

bool ProtobufReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool ProtobufReader::ReadFixed(size_t size, uint64_t* value) {
  if (rest_.size() < size) return false;
  *value = 0;
  std::memcpy(value, rest_.data(), size);  // the format is little-endian, as is this machine
  rest_.remove_prefix(size);
  return true;
}

bool ProtobufReader::Read(ProtobufField* field) {
  using Wire = ProtobufField::Wire;
  uint64_t tag = 0;
  if (!ReadVarint(&tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) return false;
  field->number = static_cast<uint32_t>(tag >> 3);
  field->wire = static_cast<Wire>(tag & 7);
  field->value = 0;
  field->bytes = {};
  switch (field->wire) {
    case Wire::kVarint: return ReadVarint(&field->value);
    case Wire::kFixed64: return ReadFixed(8, &field->value);
    case Wire::kFixed32: return ReadFixed(4, &field->value);
    case Wire::kBytes: {
      uint64_t size = 0;
      if (!ReadVarint(&size) || size > rest_.size()) return false;
      field->bytes = rest_.substr(0, size);
      rest_.remove_prefix(size);
      return true;
    }
  }
  return false;  // groups, which proto2 gave up long ago
}

}  // namespace gale::text
