#include "quant/dequantize.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(DequantizeTest, NibblesWithZerosAndAPermutation) {
  // Two rows of four inputs in blocks of two; codes 1 2 | 3 4 and 15 0 | 8 7.
  std::vector<uint8_t> codes = {0x21, 0x43, 0x0F, 0x78};
  std::vector<float> scales = {0.5F, 2, 1, -1};
  std::vector<uint8_t> zeros = {1, 4, 15, 8};
  std::vector<int32_t> permutation = {3, 0, 1, 2};
  QuantFormat format{.code = BlockCode::kScaled,
                     .block = {.out = 1, .in = 2},
                     .has_zeros = true,
                     .has_permutation = true};
  LinearWeight weight{.format = format,
                      .in = 4,
                      .out = 2,
                      .data = TensorView(codes.data(), DType::kU8, {2, 2}),
                      .scales = TensorView(scales.data(), DType::kF32, {2, 2}),
                      .zeros = TensorView(zeros.data(), DType::kU8, {2, 2}),
                      .permutation = TensorView(permutation.data(), DType::kI32, {4})};
  std::vector<float> row(4);
  DequantizeRow(weight, 0, row);
  EXPECT_EQ(row, (std::vector<float>{0.5F, -2, 0, 0}));
  DequantizeRow(weight, 1, row);
  EXPECT_EQ(row, (std::vector<float>{-15, 0, 1, 0}));
  weight.format.has_zeros = false;  // then 8 stands for 0
  DequantizeRow(weight, 1, row);
  EXPECT_EQ(row, (std::vector<float>{-8, 0, 1, 7}));
}

TEST(DequantizeTest, FloatsInBlocksOfRowsAndColumns) {
  std::vector<uint8_t> codes = {0x38, 0x40, 0xB8, 0x30, 0x38, 0x38};  // 1 2 -1 | 0.5 1 1
  std::vector<float> scales = {10, 100};
  const LinearWeight weight{.format = {.code = BlockCode::kScaled,
                                       .codes = CodeType::kF8E4M3,
                                       .block = {.out = 2, .in = 2}},
                            .in = 3,
                            .out = 2,
                            .data = TensorView(codes.data(), DType::kU8, {2, 3}),
                            .scales = TensorView(scales.data(), DType::kF32, {1, 2})};
  std::vector<float> row(3);
  DequantizeRow(weight, 0, row);
  EXPECT_EQ(row, (std::vector<float>{10, 20, -100}));
  DequantizeRow(weight, 1, row);
  EXPECT_EQ(row, (std::vector<float>{5, 10, 100}));
}

}  // namespace
}  // namespace gale
