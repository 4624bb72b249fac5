#include "scheduler/step_time_model.h"

#include <random>

#include <gtest/gtest.h>

namespace gale {
namespace {

/// A device of these speeds, whose clock is off by up to a tenth.
class Device {
 public:
  double Seconds(const StepLoad& load) const {
    return 4e-3 + 20e-6 * load.num_tokens + 30e-9 * load.read_positions + 1e-9 * load.chunk_pairs;
  }
  double Measure(const StepLoad& load) {
    return Seconds(load) * std::uniform_real_distribution(0.9, 1.1)(random_);
  }
  StepLoad Decodes() {
    StepLoad load;
    const int count = std::uniform_int_distribution(1, 64)(random_);
    for (int i = 0; i < count; ++i) {
      load.AddDecode(1, std::uniform_int_distribution(10, 4000)(random_));
    }
    return load;
  }
  StepLoad WithChunk() {
    StepLoad load = Decodes();
    load.AddChunk(std::uniform_int_distribution(2, 512)(random_),
                  std::uniform_int_distribution(0, 32000)(random_));
    return load;
  }

 private:
  std::mt19937 random_{5};
};

TEST(StepTimeModelTest, LearnsADevicesSpeeds) {
  Device device;
  StepTimeModel model;
  EXPECT_FALSE(model.is_ready());
  for (int i = 0; i < 100; ++i) {
    const StepLoad load = i % 2 == 0 ? device.Decodes() : device.WithChunk();
    model.Observe(load, device.Measure(load));
  }
  ASSERT_TRUE(model.is_ready());
  for (int i = 0; i < 50; ++i) {
    const StepLoad load = i % 2 == 0 ? device.Decodes() : device.WithChunk();
    EXPECT_NEAR(model.Predict(load), device.Seconds(load), 0.06 * device.Seconds(load));
  }
  EXPECT_NEAR(model.SecondsPerToken(), 20e-6, 4e-6);
}

TEST(StepTimeModelTest, ChunksFillTheTimeThereIs) {
  Device device;
  StepTimeModel model;
  for (int i = 0; i < 100; ++i) {
    const StepLoad load = i % 2 == 0 ? device.Decodes() : device.WithChunk();
    model.Observe(load, device.Measure(load));
  }
  for (const double begin : {0.0, 8000.0, 30000.0}) {
    const StepLoad decodes = device.Decodes();
    const double bound = 2.2 * device.Seconds(decodes);
    const int chunk = model.ChunkTokens(decodes, begin, bound);
    StepLoad whole = decodes;
    whole.AddChunk(chunk, begin);
    EXPECT_NEAR(device.Seconds(whole), bound, 0.15 * bound) << begin;
  }
  EXPECT_EQ(model.ChunkTokens(device.Decodes(), 0, 0), 0);
}

TEST(StepTimeModelTest, AThousandDecodesDoNotMakeItForgetPrompts) {
  Device device;
  StepTimeModel model;
  for (int i = 0; i < 2000; ++i) {
    const StepLoad load = i < 60 && i % 2 == 0 ? device.WithChunk() : device.Decodes();
    model.Observe(load, device.Measure(load));
  }
  EXPECT_NEAR(model.SecondsPerToken(), 20e-6, 6e-6);
}

TEST(StepTimeModelTest, FollowsADeviceThatBecomesSlower) {
  Device device;
  StepTimeModel model;
  for (int i = 0; i < 800; ++i) {
    const StepLoad load = i % 2 == 0 ? device.Decodes() : device.WithChunk();
    model.Observe(load, device.Measure(load) * (i < 100 ? 1 : 2));
  }
  const StepLoad load = device.Decodes();
  EXPECT_NEAR(model.Predict(load), 2 * device.Seconds(load), 0.15 * device.Seconds(load));
}

TEST(StepTimeModelTest, EqualLoadsAreEnough) {
  StepTimeModel model;
  StepLoad decodes;
  decodes.AddDecode(8, 800);
  StepLoad chunk;
  chunk.AddChunk(512, 0);
  for (int i = 0; i < 20; ++i) {
    model.Observe(decodes, 5e-3);
    model.Observe(chunk, 15e-3);
  }
  EXPECT_NEAR(model.Predict(decodes), 5e-3, 1e-4);
  EXPECT_NEAR(model.Predict(chunk), 15e-3, 1e-4);
}

}  // namespace
}  // namespace gale
