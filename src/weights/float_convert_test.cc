#include "weights/float_convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace gale {
namespace {

template <class Out, class In>
std::vector<Out> Convert(const std::vector<In>& values, DType from, DType to) {
  ThreadPool threads(2);
  // One byte off any alignment, as a mapped tensor may be.
  std::vector<std::byte> source(values.size() * sizeof(In) + 1);
  std::memcpy(source.data() + 1, values.data(), values.size() * sizeof(In));
  std::vector<Out> out(values.size());
  ConvertElements(std::span(source).subspan(1), from,
                  TensorView(out.data(), to, {static_cast<int64_t>(out.size())}), threads);
  return out;
}

TEST(FloatConvert, EveryBf16AndF16BecomesItsF32) {
  std::vector<Bf16> bf16(1 << 16);
  std::vector<F16> f16(1 << 16);
  for (int i = 0; i < 1 << 16; ++i) bf16[i].bits = f16[i].bits = static_cast<uint16_t>(i);
  const auto from_bf16 = Convert<float>(bf16, DType::kBf16, DType::kF32);
  const auto from_f16 = Convert<float>(f16, DType::kF16, DType::kF32);
  for (int i = 0; i < 1 << 16; ++i) {
    const float expected_bf16 = ToFloat(bf16[i]);
    const float expected_f16 = ToFloat(f16[i]);
    ASSERT_EQ(std::memcmp(&from_bf16[i], &expected_bf16, 4), 0) << i;
    ASSERT_EQ(std::memcmp(&from_f16[i], &expected_f16, 4), 0) << i;
  }
}

TEST(FloatConvert, F32ToBf16RoundsToNearestEven) {
  const float tie_down = 1 + 0x1p-8F;
  const float tie_up = 1 + 3 * 0x1p-8F;
  const auto out =
      Convert<Bf16>(std::vector<float>{1, tie_down, tie_up, std::nextafter(tie_down, 2.0F), -tie_up,
                                       std::numeric_limits<float>::max()},
                    DType::kF32, DType::kBf16);
  EXPECT_EQ(ToFloat(out[0]), 1);
  EXPECT_EQ(ToFloat(out[1]), 1);
  EXPECT_EQ(ToFloat(out[2]), 1 + 4 * 0x1p-8F);
  EXPECT_EQ(ToFloat(out[3]), 1 + 2 * 0x1p-8F);
  EXPECT_EQ(ToFloat(out[4]), -(1 + 4 * 0x1p-8F));
  EXPECT_TRUE(std::isinf(ToFloat(out[5])));
}

TEST(FloatConvert, MoreThanOneTask) {
  std::vector<float> values(600'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);
  const auto copied = Convert<float>(values, DType::kF32, DType::kF32);
  EXPECT_EQ(copied, values);
  const auto rounded = Convert<Bf16>(values, DType::kF32, DType::kBf16);
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(ToFloat(rounded[i]), values[i]) << i;
}

}  // namespace
}  // namespace gale
