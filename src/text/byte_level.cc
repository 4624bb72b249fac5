#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace gale::text {
namespace {

constexpr int kLastSpelling = 0x143;  // 0x100 + the 68 bytes that have no printable Latin-1 form -
                                      // 1

struct Tables {
  std::array<std::array<char, 2>, 256> spelling{};
  std::array<uint8_t, 256> size{};
  std::array<int16_t, kLastSpelling + 1> byte_of{};

  Tables() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
      byte_of[c] = static_cast<int16_t>(byte);
      std::string text;
      AppendUtf8(c, &text);
      size[byte] = static_cast<uint8_t>(text.size());
      for (size_t i = 0; i < text.size(); ++i) spelling[byte][i] = text[i];
    }
  }
};

const Tables& GetTables() {
  static const Tables tables;
  return tables;
}

}  // namespace

void AppendByteLevel(std::string_view bytes, std::string* out) {
  const Tables& tables = GetTables();
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    out->append(tables.spelling[byte].data(), tables.size[byte]);
  }
}

bool AppendBytesOfSpelling(std::string_view spelling, std::string* out) {
  const Tables& tables = GetTables();
  const size_t old_size = out->size();
  for (size_t pos = 0; pos < spelling.size();) {
    const Utf8Char c = DecodeUtf8(spelling.substr(pos));
    const bool known = c.state == Utf8Char::State::kValid && c.code_point <= kLastSpelling &&
                       tables.byte_of[c.code_point] >= 0;
    if (!known) {
      out->resize(old_size);
      return false;
    }
    out->push_back(static_cast<char>(tables.byte_of[c.code_point]));
    pos += c.size;
  }
  return true;
}

}  // namespace gale::text
