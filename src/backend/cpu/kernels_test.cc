// Every table of kernels that this machine can run, at the lengths and values where vector code
// goes wrong: tails, every half-precision number, the ends of exp.
#include "backend/cpu/kernels.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace gale {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class KernelsTest : public testing::TestWithParam<const CpuKernels*> {
 protected:
  const CpuKernels& kernels() const { return *GetParam(); }
};

template <class Half>
void ExpectAllHalvesConvert(const CpuKernels& kernels, DType dtype) {
  std::vector<Half> halves(1 << 16);
  for (size_t i = 0; i < halves.size(); ++i) halves[i].bits = static_cast<uint16_t>(i);
  std::vector<float> floats(halves.size());
  kernels.to_f32(halves.data(), dtype, floats.data(), std::ssize(halves));
  for (size_t i = 0; i < halves.size(); ++i) {
    const float want = ToFloat(halves[i]);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(floats[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(floats[i]), std::bit_cast<uint32_t>(want)) << i;
    }
  }
}

TEST_P(KernelsTest, EveryHalfConverts) {
  ExpectAllHalvesConvert<Bf16>(kernels(), DType::kBf16);
  ExpectAllHalvesConvert<F16>(kernels(), DType::kF16);
}

TEST_P(KernelsTest, RoundsToBf16LikeTheScalarCode) {
  std::vector<float> floats;
  for (uint32_t bits = 0; bits < 0xFFFF0000U; bits += 0x7FF1U)
    floats.push_back(std::bit_cast<float>(bits));
  std::vector<Bf16> halves(floats.size());
  kernels().from_f32(floats.data(), halves.data(), DType::kBf16, std::ssize(floats));
  for (size_t i = 0; i < floats.size(); ++i)
    ASSERT_EQ(halves[i].bits, ToBf16(floats[i]).bits) << floats[i];
}

TEST_P(KernelsTest, TailsAreReadAndWrittenExactly) {
  constexpr float kGuard = 77;
  for (int64_t n = 0; n < 70; ++n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 3;
    std::vector<float> out(x.size() + 1, kGuard);
    kernels().to_f32(x.data(), DType::kF32, out.data(), n);
    EXPECT_TRUE(std::equal(x.begin(), x.end(), out.begin()));
    EXPECT_EQ(out.back(), kGuard);
    EXPECT_EQ(kernels().max(x.data(), n), n == 0 ? -kInfinity : static_cast<float>(n - 4));
    const float sum = kernels().exp_sum(x.data(), static_cast<float>(n), 1, out.data(), n);
    EXPECT_EQ(out.back(), kGuard);
    double want = 0;
    for (const float value : x) want += std::exp(double{value} - static_cast<double>(n));
    EXPECT_NEAR(sum, want, 1e-5 * want);
  }
}

TEST_P(KernelsTest, ExpIsAccurateAndEndsInZero) {
  std::vector<float> x;
  for (float value = -87; value <= 0; value += 0.00137F) x.push_back(value);
  std::vector<float> out(x.size());
  kernels().exp_sum(x.data(), 0, 1, out.data(), std::ssize(x));
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(double{x[i]});
    ASSERT_NEAR(out[i], want, 2e-7 * want) << x[i];
  }
  std::vector<float> ends(16, -kInfinity);
  ends[1] = -88;
  ends[2] = -1e30F;
  ends[3] = 0;
  EXPECT_EQ(kernels().exp_sum(ends.data(), 0, 1, ends.data(), 16), 1.0F);
  EXPECT_EQ(ends[0], 0.0F);
  EXPECT_EQ(ends[3], 1.0F);
}

TEST_P(KernelsTest, SiluMulAtTheEnds) {
  std::vector<float> gate = {0, -0.0F, 100, 1e30F, -100, -1e30F, -kInfinity, kInfinity};
  const std::vector<float> up(gate.size(), 2);
  std::vector<float> out(gate.size());
  kernels().silu_mul(gate.data(), up.data(), out.data(), std::ssize(gate));
  EXPECT_EQ(out[0], 0.0F);
  EXPECT_EQ(out[1], 0.0F);
  EXPECT_EQ(out[2], 200.0F);
  EXPECT_EQ(out[3], 2e30F);
  EXPECT_NEAR(out[4], 0, 1e-30);
  EXPECT_EQ(out[7], kInfinity);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  kernels().silu_mul(&nan, up.data(), out.data(), 1);
  EXPECT_TRUE(std::isnan(out[0]));
}

TEST_P(KernelsTest, SoftcapIsAccurateAndKeepsTheCap) {
  constexpr float kCap = 3;
  std::vector<float> x;
  for (float value = -40; value <= 40; value += 0.0137F) x.push_back(value);
  for (const float value : {0.0F, 1e-20F, -1e-6F, 1e30F, -kInfinity, kInfinity}) x.push_back(value);
  std::vector<float> out = x;
  kernels().softcap(out.data(), kCap, std::ssize(out));
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = kCap * std::tanh(double{x[i]} / kCap);
    ASSERT_NEAR(out[i], want, 4e-7 * std::abs(want)) << x[i];
  }
}

TEST_P(KernelsTest, GeluTanhMulAtTheEnds) {
  const std::vector<float> gate = {0, 100, 1e12F, -100, -1e12F};
  const std::vector<float> up(gate.size(), 2);
  std::vector<float> out(gate.size());
  kernels().gelu_tanh_mul(gate.data(), up.data(), out.data(), std::ssize(gate));
  EXPECT_EQ(out, (std::vector<float>{0, 200, 2e12F, out[3], out[4]}));
  EXPECT_NEAR(out[3], 0, 1e-30);
  EXPECT_NEAR(out[4], 0, 1e-20);
}

/// Group g of 32 numbers with the largest magnitude 2^(g - 2), both signs.
std::vector<Bf16> Groups(int groups) {
  std::vector<Bf16> x;
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i < cpu::kPanelGroup; ++i) {
      const double value = std::ldexp(std::cos(1.7 * i), g - 2);
      x.push_back(ToBf16(static_cast<float>(i % 5 == 0 ? -value : value)));
    }
  }
  return x;
}

TEST_P(KernelsTest, RowsRoundToTheNearestCodes) {
  const std::vector<Bf16> x = Groups(3);
  std::vector<cpu::QuantizedGroup> groups(3);
  kernels().quantize_row(x.data(), std::ssize(x), groups.data());
  for (size_t g = 0; g < groups.size(); ++g) {
    int32_t sum = 0;
    int largest = 0;
    for (size_t i = 0; i < cpu::kPanelGroup; ++i) {
      const int code = groups[g].codes[i];
      EXPECT_LE(std::abs(groups[g].scale * static_cast<float>(code) -
                         ToFloat(x[g * cpu::kPanelGroup + i])),
                0.5001F * groups[g].scale);
      largest = std::max(largest, std::abs(code));
      sum += code;
    }
    EXPECT_EQ(largest, 127);
    EXPECT_EQ(groups[g].sums[0] + groups[g].sums[1], sum);
  }
}

TEST_P(KernelsTest, RowsWithoutARangeRoundToZeroOrNoNumber) {
  std::vector<Bf16> x(3 * cpu::kPanelGroup);
  x[cpu::kPanelGroup] = ToBf16(0x1p-110F);
  x[2 * cpu::kPanelGroup + 7] = ToBf16(-kInfinity);
  std::vector<cpu::QuantizedGroup> groups(3);
  kernels().quantize_row(x.data(), std::ssize(x), groups.data());
  EXPECT_EQ(groups[0].scale, 0);
  EXPECT_EQ(groups[1].scale, 0);
  EXPECT_TRUE(std::isnan(groups[2].scale));
  for (const cpu::QuantizedGroup& group : groups) EXPECT_EQ(group.sums[0] + group.sums[1], 0);
}

/// Panels of one unit whose numbers in front of the codes are small powers of two.
std::vector<uint8_t> MakeUnit(const cpu::PanelFormat& format) {
  using enum cpu::PanelScales;
  std::vector<uint8_t> unit(static_cast<size_t>(format.UnitBytes()));
  const uint8_t mask = format.scales == kF16 ? 0xFF : 0x3F;  // few enough bits for exact sums
  for (size_t i = 0; i < unit.size(); ++i)
    unit[i] = static_cast<uint8_t>(i * i * 31 + i / 7) & mask;
  for (int64_t i = 0; i < format.HeaderBytes(); ++i) {
    unit[static_cast<size_t>(i)] = static_cast<uint8_t>(1 + i % 2);
  }
  for (int64_t c = 0; c < cpu::kPanelColumns; ++c) {
    const auto half = static_cast<uint16_t>(0x2000 + c % 3 * 0x400);
    const float wide = std::ldexp(1.0F, static_cast<int>(c % 5) - 2);
    if (format.scales == kZeros) {
      std::memcpy(unit.data() + 4 * c, &wide, sizeof(wide));
    } else {
      std::memcpy(unit.data() + 2 * c, &half, sizeof(half));
    }
    if (format.scales == kMins) {
      std::memcpy(unit.data() + 2 * (cpu::kPanelColumns + c), &half, sizeof(half));
    }
  }
  return unit;
}

/// Whole numbers up to 127 times powers of two are exact in every step, hence equal everywhere.
TEST_P(KernelsTest, IntegerPanelsGiveTheSameEverywhere) {
  constexpr int64_t kIn = 96;
  constexpr int64_t kRows = 15;
  std::vector<Bf16> x;
  for (int i = 0; i < kRows * kIn; ++i) {
    const int group = i / static_cast<int>(cpu::kPanelGroup);
    const int code = i % cpu::kPanelGroup == 0 ? 127 : i * 37 % 255 - 127;
    x.push_back(ToBf16(std::ldexp(static_cast<float>(code), group % 3)));
  }
  using enum cpu::PanelScales;
  for (const cpu::PanelCodes codes : {cpu::PanelCodes::k8Bits, cpu::PanelCodes::k4Bits}) {
    for (const cpu::PanelScales scales : {kF16, kZeros, kMins, kHalves}) {
      const cpu::PanelFormat format = {codes, scales, kIn / cpu::kPanelGroup};
      const std::vector<uint8_t> panel = MakeUnit(format);
      const auto multiply = [&](const CpuKernels& table, int64_t rows) {
        std::vector<cpu::QuantizedGroup> groups(x.size() / cpu::kPanelGroup);
        table.quantize_row(x.data(), std::ssize(x), groups.data());
        std::vector<float> out(static_cast<size_t>(rows * cpu::kPanelColumns));
        table.multiply_panels({.format = format,
                               .x = groups.data(),
                               .x_stride = kIn / cpu::kPanelGroup * int64_t{sizeof(groups[0])},
                               .rows = rows,
                               .k = kIn,
                               .panels = panel.data(),
                               .num_panels = 1,
                               .out = out.data(),
                               .out_stride = cpu::kPanelColumns});
        return out;
      };
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 15}) {
        EXPECT_EQ(multiply(kernels(), rows), multiply(kKernelsPortable, rows));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, KernelsTest,
                         testing::ValuesIn(AvailableKernels().begin(), AvailableKernels().end()),
                         [](const auto& table) { return std::string(table.param->name); });

}  // namespace
}  // namespace gale
