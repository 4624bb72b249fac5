#include "tensor/ggml_block.h"

#include <bit>
#include <fstream>
#include <map>
#include <span>
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

/// Of the values' bits; zero times a negative number may have either sign.
uint64_t Fnv1a(std::span<const float> values) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value == 0 ? 0.0F : value);
    for (int i = 0; i < 4; ++i) hash = (hash ^ (bits >> (8 * i) & 0xFFU)) * 0x100000001B3U;
  }
  return hash;
}

TEST(GgmlBlock, SizesAreThoseOfTheFormat) {
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ4_0, 64), 36);
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ8_0, 64), 68);
  EXPECT_EQ(GgmlRowBytes(GgmlType::kMxfp4, 64), 34);
  EXPECT_EQ(GgmlRowBytes(GgmlType::kQ6K, 512), 420);
}

/// Bit for bit what llama.cpp's own package makes of the same bytes.
TEST(GgmlBlock, DequantizesAsLlamaCpp) {
  std::ifstream file(GALE_SOURCE_DIR "/tests/data/gguf/blocks.txt");
  std::map<std::string, int> blocks;
  for (std::string name, hex, hash; file >> name >> hex >> hash; ++blocks[name]) {
    GgmlType type = GgmlType::kNone;
    for (const GgmlTypeInfo& info : kGgmlTypes) {
      if (name == info.name) type = info.type;
    }
    const std::vector<std::byte> block = FromHex(hex);
    ASSERT_EQ(std::ssize(block), GgmlBlockBytes(type)) << name;
    std::vector<float> got(static_cast<size_t>(GgmlBlockElements(type)));
    DequantizeBlock(type, block.data(), got.data());
    EXPECT_EQ(Fnv1a(got), std::stoull(hash, nullptr, 16)) << name << " " << hex;
  }
  EXPECT_EQ(blocks.size(), kGgmlTypes.size());
  for (const auto& [name, count] : blocks) EXPECT_EQ(count, 8) << name;
}

TEST(GgmlBlock, DequantizesBlocksInARow) {
  std::vector<std::byte> blocks(2 * static_cast<size_t>(GgmlBlockBytes(GgmlType::kQ8_0)));
  blocks[1] = blocks[35] = std::byte{0x3C};  // 1
  blocks[2] = std::byte{5};
  blocks[36 + 31] = std::byte{0xFF};
  std::vector<float> got(64);
  DequantizeBlocks(GgmlType::kQ8_0, blocks.data(), got);
  EXPECT_EQ(got[0], 5);
  EXPECT_EQ(got[32 + 31], -1);
}

}  // namespace
}  // namespace gale
