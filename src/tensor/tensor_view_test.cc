#include "tensor/tensor_view.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/bf16.h"

namespace gale {
namespace {

TEST(TensorView, ContiguousStridesAndText) {
  std::vector<float> data(24);
  const TensorView view(data.data(), DType::kF32, {2, 3, 4});
  EXPECT_EQ(view.strides[0], 12);
  EXPECT_EQ(view.strides[1], 4);
  EXPECT_EQ(view.strides[2], 1);
  EXPECT_EQ(view.NumElements(), 24);
  EXPECT_EQ(view.Bytes(), 96U);
  EXPECT_EQ(view.ToString(), "f32 [2, 3, 4]");
  EXPECT_EQ(TensorView().ToString(), "f32 []");
  EXPECT_FALSE(TensorView());
}

TEST(TensorView, SliceKeepsStrides) {
  std::vector<uint16_t> data(24);
  const TensorView view(data.data(), DType::kBf16, {4, 6});
  const TensorView columns = view.Slice(1, 2, 5);
  EXPECT_EQ(columns.ToString(), "bf16 [4, 3]");
  EXPECT_EQ(columns.strides[0], 6);
  EXPECT_EQ(columns.data, data.data() + 2);
  EXPECT_EQ(view.Rows(1, 3).data, data.data() + 6);
  EXPECT_EQ(view.Rows(4, 4).NumElements(), 0);
}

TEST(Bf16, RoundsToNearestEvenAndKeepsSpecials) {
  EXPECT_EQ(ToBf16(1.0F).bits, 0x3F80);
  EXPECT_EQ(ToBf16(1.0F + 0x1p-8F).bits, 0x3F80);  // a tie goes to the even neighbour
  EXPECT_EQ(ToBf16(1.0F + 0x1p-7F + 0x1p-8F).bits, 0x3F82);
  EXPECT_EQ(ToBf16(1.0F + 0x1p-8F + 0x1p-20F).bits, 0x3F81);
  EXPECT_EQ(ToBf16(std::numeric_limits<float>::max()).bits, 0x7F80);
  EXPECT_EQ(ToBf16(-std::numeric_limits<float>::infinity()).bits, 0xFF80);
  const float nan = ToFloat(ToBf16(std::numeric_limits<float>::signaling_NaN()));
  EXPECT_NE(nan, nan);
  EXPECT_EQ(ToFloat(Bf16{0x8000}), 0.0F);
}

}  // namespace
}  // namespace gale
