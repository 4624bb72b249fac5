#include "quantize/packing.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/json.h"
#include "quantize/quantize_test_support.h"
#include "tensor/f16.h"
#include "tensor/f8.h"

namespace gale {
namespace {

template <class T>
T At(const OutputTensor& tensor, int64_t i) {
  T value;
  std::memcpy(&value, tensor.owned.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

class PackingTest : public testing::Test {
 protected:
  ThreadPool threads_{1};
  Matrix weight_ = RandomMatrix(16, 64, 7);
};

// The layouts are unpacked as their packages describe them, element by element.

TEST_F(PackingTest, AwqPutsEvenPlacesFirst) {
  const IntegerWeight codes = RoundToNearest(weight_, {.has_zeros = true, .group = 32}, threads_);
  const auto tensors = PackIntegers("x", codes, QuantizeContainer::kAwq);
  EXPECT_EQ(tensors[0].name, "x.qweight");
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{64, 2}));
  EXPECT_EQ(tensors[1].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(tensors[2].shape, (std::vector<int64_t>{2, 16}));
  constexpr int kShiftOf[] = {0, 16, 4, 20, 8, 24, 12, 28};  // output o % 8 lies there
  for (int64_t row = 0; row < 16; ++row) {
    for (int64_t i = 0; i < 64; ++i) {
      const int shift = kShiftOf[row % 8];
      const uint32_t code = At<uint32_t>(tensors[0], i * 2 + row / 8) >> shift & 15;
      const uint32_t zero = At<uint32_t>(tensors[1], i / 32 * 2 + row / 8) >> shift & 15;
      const float scale = ToFloat(F16{At<uint16_t>(tensors[2], i / 32 * 16 + row)});
      EXPECT_EQ(scale * (static_cast<float>(code) - static_cast<float>(zero)),
                Dequantize(codes)(row, i));
    }
  }
}

TEST_F(PackingTest, GptqPacksAlongInputsAndStoresZerosLessOne) {
  for (const int bits : {4, 8}) {
    const IntegerWeight codes = RoundToNearest(weight_, {.bits = bits, .group = 32}, threads_);
    const auto tensors = PackIntegers("x", codes, QuantizeContainer::kGptq);
    const int in_word = 32 / bits;
    const uint32_t mask = (1U << bits) - 1;
    EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{64 / in_word, 16}));
    EXPECT_EQ(tensors[3].name, "x.g_idx");
    for (int64_t row = 0; row < 16; ++row) {
      for (int64_t i = 0; i < 64; ++i) {
        const int32_t group = At<int32_t>(tensors[3], i);
        const uint32_t code =
            At<uint32_t>(tensors[0], i / in_word * 16 + row) >> (i % in_word * bits) & mask;
        const uint32_t zero =
            At<uint32_t>(tensors[1], (group * 16 + row) / in_word) >> (row % in_word * bits) & mask;
        const float scale = ToFloat(F16{At<uint16_t>(tensors[2], group * 16 + row)});
        EXPECT_EQ(scale * (static_cast<float>(code) - static_cast<float>(zero + 1)),
                  Dequantize(codes)(row, i));
      }
    }
  }
}

TEST_F(PackingTest, PackQuantizedHasZerosAlongOutputs) {
  const IntegerFormat format{.has_zeros = true, .group = 32, .scale = DType::kF32};
  const IntegerWeight codes = RoundToNearest(weight_, format, threads_);
  const auto tensors = PackIntegers("x", codes, QuantizeContainer::kPackedInt);
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(At<int64_t>(tensors[2], 0), 16);
  EXPECT_EQ(At<int64_t>(tensors[2], 1), 64);
  EXPECT_EQ(tensors[3].shape, (std::vector<int64_t>{2, 2}));
  for (int64_t row = 0; row < 16; ++row) {
    for (int64_t i = 0; i < 64; ++i) {
      const uint32_t code = At<uint32_t>(tensors[0], row * 8 + i / 8) >> (i % 8 * 4) & 15;
      const uint32_t zero = At<uint32_t>(tensors[3], row / 8 * 2 + i / 32) >> (row % 8 * 4) & 15;
      EXPECT_EQ(At<float>(tensors[1], row * 2 + i / 32) *
                    (static_cast<float>(code) - static_cast<float>(zero)),
                Dequantize(codes)(row, i));
    }
  }
}

TEST_F(PackingTest, ScaledCodesAreTheNearest) {
  const Matrix weight = RandomMatrix(130, 200, 8);
  for (const auto container : {QuantizeContainer::kInt8, QuantizeContainer::kFp8,
                               QuantizeContainer::kFp8Tensor, QuantizeContainer::kFp8Block}) {
    const auto tensors = PackScaled("x", weight, container, DType::kF32);
    const bool is_int8 = container == QuantizeContainer::kInt8;
    const bool is_block = container == QuantizeContainer::kFp8Block;
    EXPECT_EQ(tensors[1].name, is_block ? "x.weight_scale_inv" : "x.weight_scale");
    for (int64_t row = 0; row < 130; ++row) {
      for (int64_t i = 0; i < 200; ++i) {
        const int64_t at = is_block                                     ? row / 128 * 2 + i / 128
                           : container == QuantizeContainer::kFp8Tensor ? 0
                                                                        : row;
        const float scale = At<float>(tensors[1], at);
        const uint8_t code = At<uint8_t>(tensors[0], row * 200 + i);
        const float value =
            is_int8 ? static_cast<float>(static_cast<int8_t>(code)) : ToFloat(F8E4M3{code});
        // Half a step: of a whole number, or of a float of three mantissa bits.
        const float half =
            is_int8 ? 0.5F : std::max(0x1p-10F, std::abs(weight(row, i) / scale) / 16);
        EXPECT_LE(std::abs(weight(row, i) - scale * value), 1.001F * half * scale);
      }
    }
  }
}

TEST(QuantizationConfigTest, IsJsonWithItsMethod) {
  for (const QuantizeScheme& scheme : QuantizeSchemes()) {
    if (scheme.container == QuantizeContainer::kGguf) continue;
    const std::string json = QuantizationConfigJson({.container = scheme.container,
                                                     .format = {.bits = scheme.bits},
                                                     .plain = {"lm_head", "x.gate"}});
    const auto document = JsonDocument::Parse(json, std::string(scheme.name));
    ASSERT_TRUE(document) << document.error().message;
    EXPECT_TRUE(document->root().Object()->Get("quant_method")) << scheme.name;
  }
}

}  // namespace
}  // namespace gale
