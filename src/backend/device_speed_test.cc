#include "backend/device_speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gale {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(DeviceSpeed, MeasuresTheCpu) {
  const auto speed = MeasureDeviceSpeed("cpu", 1, size_t{1} << 20);
  ASSERT_TRUE(speed.has_value()) << speed.error().message;
  EXPECT_GT(speed->read_bytes_per_s, 0);
  EXPECT_GT(speed->product_flop_per_s, 0);
  EXPECT_EQ(speed->upload_bytes_per_s, 0);  // weights are read where they lie
}

TEST(DeviceSpeed, UnknownDevicesAreNotMeasured) {
  const auto speed = MeasureDeviceSpeed("tpu", 1, size_t{1} << 20);
  ASSERT_FALSE(speed.has_value());
  EXPECT_EQ(speed.error().code, ErrorCode::kNotFound);
}

TEST(DeviceSpeed, SaysWhichLimitIsTooLow) {
  const std::string h200 = "NVIDIA H200, compute capability 9.0";
  EXPECT_THAT(TooSlow(h200, {.read_bytes_per_s = 4400e9, .product_flop_per_s = 700e12}), IsEmpty());
  EXPECT_THAT(TooSlow(h200, {.read_bytes_per_s = 4399e9, .product_flop_per_s = 700e12}),
              AllOf(HasSubstr("read at 4399 GB/s"), Not(HasSubstr("TFLOP/s"))));
  EXPECT_THAT(TooSlow(h200, {.read_bytes_per_s = 4550e9, .product_flop_per_s = 600e12}),
              AllOf(HasSubstr("run at 600 TFLOP/s"), Not(HasSubstr("GB/s"))));
  EXPECT_THAT(TooSlow(h200, {}), AllOf(HasSubstr("GB/s"), HasSubstr("TFLOP/s")));
  EXPECT_THAT(TooSlow("AMD EPYC", {.read_bytes_per_s = 1, .product_flop_per_s = 1}), IsEmpty());
}

}  // namespace
}  // namespace gale
