// Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding), field by
// field; enough for SentencePiece's model files.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace gale::text {

struct ProtobufField {
  enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint32_t number = 0;
  Wire wire = Wire::kVarint;
  uint64_t value = 0;      ///< of all but kBytes
  std::string_view bytes;  ///< of kBytes; a view into the message

  bool is_varint() const { return wire == Wire::kVarint; }
  bool is_bytes() const { return wire == Wire::kBytes; }
  float AsFloat() const {
    const auto bits = static_cast<uint32_t>(value);
    float number_value;
    std::memcpy(&number_value, &bits, sizeof(number_value));
    return number_value;
  }
};

/// Walks one message. Nothing outside the message is read, whatever it claims.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  /// False at the end, and when what follows is no field: then ok() is false.
  bool Next(ProtobufField* field);
  bool ok() const { return ok_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool ReadFixed(size_t size, uint64_t* value);
  bool Read(ProtobufField* field);

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace gale::text
