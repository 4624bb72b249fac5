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

void ExpectFrequencies(const RopeConfig& config, int rotary_dim,
                       const std::vector<std::pair<int, float>>& expected) {
  const std::vector<float> inv_freq = RotaryInvFreq(config, rotary_dim);
  ASSERT_EQ(std::ssize(inv_freq), rotary_dim / 2);
  for (const auto& [i, value] : expected) EXPECT_NEAR(inv_freq[i], value, 2.4e-7F * value) << i;
}

// Values from transformers 5.23, ROPE_INIT_FUNCTIONS.
TEST(RotaryInvFreq, LinearScaling) {
  RopeConfig config;
  config.type = RopeType::kLinear;
  config.factor = 8;
  ExpectFrequencies(config, 16, {{0, 0.125F}, {1, 0.0395284705F}, {7, 3.95284733e-05F}});
}

TEST(RotaryInvFreq, DynamicScalingFollowsTheContextThatTheModelIsLoadedFor) {
  RopeConfig config;
  config.type = RopeType::kDynamic;
  config.factor = 4;
  config.original_max_position = 2048;
  config.context = 8192;
  ExpectFrequencies(config, 16,
                    {{0, 1}, {1, 0.219212472F}, {2, 0.0480541028F}, {7, 2.43252125e-05F}});
  config.context = 1000;  // no more than it was trained for: nothing is scaled
  ExpectFrequencies(config, 16, {{1, 0.316227764F}, {7, 0.000316227786F}});
}

// Qwen's advice for long contexts, but for the size of a head.
TEST(RotaryInvFreq, Yarn) {
  RopeConfig config;
  config.type = RopeType::kYarn;
  config.theta = 1000000;
  config.factor = 4;
  config.original_max_position = 32768;
  ExpectFrequencies(config, 32,
                    {{5, 0.0133352149F},
                     {6, 0.00477990136F},
                     {8, 0.000549999997F},
                     {9, 0.000168678584F},
                     {10, 4.44569851e-05F},
                     {15, 5.92843435e-07F}});
}

// gpt-oss's own parameters.
TEST(RotaryInvFreq, YarnWithARampBetweenFractions) {
  RopeConfig config;
  config.type = RopeType::kYarn;
  config.theta = 150000;
  config.factor = 32;
  config.original_max_position = 4096;
  config.truncate = false;
  ExpectFrequencies(config, 64,
                    {{8, 0.0508132726F},
                     {9, 0.0317056961F},
                     {13, 0.00386035908F},
                     {17, 0.000129318694F},
                     {18, 3.83088118e-05F},
                     {31, 3.0235114e-07F}});
}

TEST(RotaryInvFreq, LongRopeFollowsTheContextThatTheModelIsLoadedFor) {
  RopeConfig config;
  config.type = RopeType::kLongRope;
  config.original_max_position = 4096;
  config.short_divisors = {1, 2};
  config.long_divisors = {4, 8};
  config.context = 4096;
  EXPECT_EQ(RotaryInvFreq(config, 4), (std::vector<float>{1, 0.005F}));
  config.context = 4097;
  EXPECT_EQ(RotaryInvFreq(config, 4), (std::vector<float>{0.25F, 0.00125F}));
}

}  // namespace
}  // namespace gale
