#include "base/rng.h"

#include <gtest/gtest.h>

namespace gale {
namespace {

void ExpectWords(const PhiloxCounter& got, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT_EQ(got.words[0], a);
  EXPECT_EQ(got.words[1], b);
  EXPECT_EQ(got.words[2], c);
  EXPECT_EQ(got.words[3], d);
}

// Known answers from Random123's kat_vectors ("philox4x32 10").
TEST(Philox, KnownAnswers) {
  ExpectWords(Philox4x32({}, {}), 0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U);
  ExpectWords(Philox4x32({{0xffffffffU, 0xffffffffU, 0xffffffffU, 0xffffffffU}},
                         {{0xffffffffU, 0xffffffffU}}),
              0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU);
  ExpectWords(Philox4x32({{0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}},
                         {{0xa4093822U, 0x299f31d0U}}),
              0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U);
}

TEST(Philox, WorksAtCompileTime) {
  static_assert(Philox4x32({}, {}).words[0] == 0x6627e8d5U);
  static_assert(UniformDouble(0, 0, 0) < 1.0);
}

TEST(UniformDouble, DependsOnEveryPartOfTheCounter) {
  const double base = UniformDouble(1, 2, RandomCounterHigh(3, RandomStream::kSample));
  EXPECT_NE(base, UniformDouble(2, 2, RandomCounterHigh(3, RandomStream::kSample)));
  EXPECT_NE(base,
            UniformDouble(1 + (uint64_t{1} << 32), 2, RandomCounterHigh(3, RandomStream::kSample)));
  EXPECT_NE(base, UniformDouble(1, 3, RandomCounterHigh(3, RandomStream::kSample)));
  EXPECT_NE(base, UniformDouble(1, 2, RandomCounterHigh(4, RandomStream::kSample)));
  EXPECT_NE(base, UniformDouble(1, 2, RandomCounterHigh(3, RandomStream::kAccept)));
}

TEST(UniformDouble, FillsTheUnitIntervalEvenly) {
  constexpr int kDraws = 20000;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = UniformDouble(7, static_cast<uint64_t>(i), 0);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Standard error of the mean is 0.0020 and of the mean square 0.0021: five of them.
  EXPECT_NEAR(sum / kDraws, 0.5, 0.0105);
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 0.0105);
}

}  // namespace
}  // namespace gale
