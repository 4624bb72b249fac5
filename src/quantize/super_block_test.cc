#include "quantize/super_block.h"

#include <gtest/gtest.h>

#include "quantize/quantize_test_support.h"

namespace gale {
namespace {

/// Root of the mean squared error, as a share of the elements' own.
double RelativeError(GgmlType type, const Matrix& weight) {
  ThreadPool threads(2);
  const std::string bytes = ToGgmlBlocks(weight, type, threads);
  const GgmlTypeInfo info = GgmlInfo(type);
  Matrix back(weight.rows(), weight.cols());
  const auto* block = reinterpret_cast<const std::byte*>(bytes.data());
  for (int64_t i = 0; i < weight.size(); i += info.elements, block += info.bytes) {
    DequantizeBlock(type, block, back.data() + i);
  }
  return (back - weight).norm() / weight.norm();
}

TEST(SuperBlockTest, ErrorsAreThoseOfTheirBits) {
  const Matrix weight = RandomMatrix(4, 512, 5);
  EXPECT_LT(RelativeError(GgmlType::kQ8_0, weight), 0.01);
  EXPECT_LT(RelativeError(GgmlType::kQ6K, weight), 0.025);
  EXPECT_LT(RelativeError(GgmlType::kQ4K, weight), 0.085);
  EXPECT_LT(RelativeError(GgmlType::kQ4_0, weight), 0.11);
  // Half as many codes would leave about twice the error.
  EXPECT_GT(RelativeError(GgmlType::kQ4K, weight), 0.05);
}

TEST(SuperBlockTest, GroupsOfOneSignAndOfZeros) {
  Matrix weight = RandomMatrix(2, 256, 6).cwiseAbs();
  weight.row(1).head(64).setZero();
  for (const GgmlType type : {GgmlType::kQ4K, GgmlType::kQ6K}) {
    EXPECT_LT(RelativeError(type, weight), 0.08);
    EXPECT_LT(RelativeError(type, -weight), 0.08);
  }
  EXPECT_LT(RelativeError(GgmlType::kQ4K, Matrix::Constant(1, 256, 3)), 0.01);
}

}  // namespace
}  // namespace gale
