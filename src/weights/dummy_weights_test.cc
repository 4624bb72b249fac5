#include "weights/dummy_weights.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "backend/registry.h"
#include "tensor/bf16.h"

namespace gale {
namespace {

void FillOnCpu(const DummySpec& spec, const TensorView& out, int threads = 1) {
  const auto backend = *CreateBackend("cpu", {.threads = threads});
  const auto stream = backend->CreateStream();
  DummyWeights::Create(*backend, *stream)->Fill(spec, out);
}

std::vector<float> Fill(const DummySpec& spec, int64_t elements, int threads = 1) {
  std::vector<float> values(elements);
  FillOnCpu(spec, TensorView(values.data(), DType::kF32, {elements}), threads);
  return values;
}

TEST(DummyWeights, AreNormal) {
  constexpr int64_t kElements = 1'000'000;
  const auto values = Fill({"w", 1, 0.5F, 0.1F}, kElements);
  // Standard errors of mean, variance and tail shares at a million draws are under 0.1%, 0.15%.
  double mean = 0;
  double variance = 0;
  int beyond_one = 0;
  int beyond_three = 0;
  for (const float value : values) mean += value / kElements;
  for (const float value : values) {
    variance += (value - mean) * (value - mean) / kElements;
    beyond_one += std::fabs(value - 0.5) > 0.1;
    beyond_three += std::fabs(value - 0.5) > 0.3;
  }
  EXPECT_NEAR(mean, 0.5, 5e-4);
  EXPECT_NEAR(variance, 0.01, 7e-5);
  EXPECT_NEAR(beyond_one / 1e6, 0.3173, 0.0024);
  EXPECT_NEAR(beyond_three / 1e6, 0.0027, 0.00026);
}

TEST(DummyWeights, ArePureInNameIndexAndSeed) {
  const auto values = Fill({"w", 1, 0, 1}, 600'000);
  EXPECT_EQ(Fill({"w", 1, 0, 1}, 600'000, 3), values);
  const auto prefix = Fill({"w", 1, 0, 1}, 1003);
  EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), values.begin()));
  EXPECT_NE(Fill({"v", 1, 0, 1}, 1003), prefix);
  EXPECT_NE(Fill({"w", 2, 0, 1}, 1003), prefix);
}

TEST(DummyWeights, Bf16IsTheRoundedF32) {
  const auto expected = Fill({"w", 7, 1, 0.02F}, 1000);
  std::vector<Bf16> values(1000);
  FillOnCpu({"w", 7, 1, 0.02F}, TensorView(values.data(), DType::kBf16, {10, 100}));
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(values[i].bits, ToBf16(expected[i]).bits) << i;
}

}  // namespace
}  // namespace gale
