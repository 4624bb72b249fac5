#include "tensor/ggml_block.h"

#include <array>
#include <bit>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

std::vector<std::byte> FromHex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(GgmlBlock, SizesAreThoseOfTheFormat) {
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ4_0, 64), 36);
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ8_0, 64), 68);
  EXPECT_EQ(GgmlRowBytes(GgmlType::kMxfp4, 64), 34);
}

/// Bit for bit what llama.cpp's own package makes of the same bytes; all products are exact.
TEST(GgmlBlock, DequantizesAsLlamaCpp) {
  std::ifstream file(GALE_SOURCE_DIR "/tests/data/gguf/blocks.txt");
  int blocks = 0;
  for (std::string name, hex, values; file >> name >> hex >> values; ++blocks) {
    GgmlType type = GgmlType::kNone;
    for (const GgmlType known : {GgmlType::kQ4_0, GgmlType::kQ8_0, GgmlType::kMxfp4}) {
      if (name == GgmlTypeName(known)) type = known;
    }
    const std::vector<std::byte> block = FromHex(hex);
    ASSERT_EQ(std::ssize(block), GgmlBlockBytes(type));
    const std::vector<std::byte> expected = FromHex(values);
    ASSERT_EQ(expected.size(), kGgmlBlockElements * sizeof(float));
    std::array<float, kGgmlBlockElements> got;
    DequantizeBlock(type, block.data(), got.data());
    for (size_t i = 0; i < got.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &expected[i * sizeof(float)], sizeof(bits));
      // Zero times a negative number may have either sign.
      const bool is_zero = got[i] == 0 && (bits & 0x7FFFFFFFU) == 0;
      EXPECT_TRUE(is_zero || std::bit_cast<uint32_t>(got[i]) == bits) << name << " " << hex << i;
    }
  }
  EXPECT_EQ(blocks, 24);
}

}  // namespace
}  // namespace gale
