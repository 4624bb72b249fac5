#include "nn/rotary_embedding.h"

#include <cmath>

#include <gtest/gtest.h>

namespace gale {
namespace {

TEST(RotaryInvFreq, PowersOfTheta) {
  RopeConfig config;
  config.theta = 10000;
  EXPECT_EQ(RotaryInvFreq(config, 8), (std::vector<float>{1, 0.1F, 0.01F, 0.001F}));
}

// Llama 3.1's own parameters; values from transformers 5.23, ROPE_INIT_FUNCTIONS["llama3"], which
// must be met to the last bit but one.
TEST(RotaryInvFreq, Llama3Scaling) {
  RopeConfig config;
  config.type = RopeType::kLlama3;
  config.theta = 500000;
  config.factor = 8;
  config.low_freq_factor = 1;
  config.high_freq_factor = 4;
  config.original_max_position = 8192;
  const std::vector<float> inv_freq = RotaryInvFreq(config, 128);
  ASSERT_EQ(inv_freq.size(), 64U);
  const std::pair<int, float> expected[] = {{0, 1.0F},
                                            {1, 0.814617217F},
                                            {20, 0.0165604409F},
                                            {28, 0.00321144611F},
                                            {29, 0.00216657063F},
                                            {31, 0.00085675146F},
                                            {33, 0.00031269365F},
                                            {34, 0.000178507791F},
                                            {35, 9.55621217e-05F},
                                            {40, 3.42810235e-05F},
                                            {63, 3.06892588e-07F}};
  for (const auto& [i, value] : expected) EXPECT_NEAR(inv_freq[i], value, 1.2e-7F * value) << i;
}

}  // namespace
}  // namespace gale
