// Buckets and the order of captures, on a device that records what it is given.
#include "runner/graph_runner.h"

#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/registry.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class GraphRunnerTest : public ::testing::Test {
 protected:
  GraphRunner Make(const char* device, int max_rows) {
    backend_ = *CreateBackend(device, {.threads = 1});
    stream_ = backend_->CreateStream();
    return {*backend_, *stream_, max_rows, [this](int rows, int slot) {
              recorded_.emplace_back(rows, slot);
              backend_->Copy(*stream_, &copied_, &source_, sizeof(source_));
            }};
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  std::vector<std::pair<int, int>> recorded_;
  int source_ = 0;
  int copied_ = 0;
};

TEST_F(GraphRunnerTest, CapturesSmallestFirstAndAlsoTheLargestSteps) {
  GraphRunner graphs = Make("deferred", 21);
  while (graphs.CaptureNext()) {
  }
  EXPECT_THAT(recorded_, ElementsAre(Pair(1, 0), Pair(1, 1), Pair(2, 0), Pair(2, 1), Pair(4, 0),
                                     Pair(4, 1), Pair(8, 0), Pair(8, 1), Pair(16, 0), Pair(16, 1),
                                     Pair(21, 0), Pair(21, 1)));
  EXPECT_EQ(graphs.FindBucket(1), 1);
  EXPECT_EQ(graphs.FindBucket(5), 8);
  EXPECT_EQ(graphs.FindBucket(17), 21);
  EXPECT_EQ(graphs.FindBucket(22), 0);
}

TEST_F(GraphRunnerTest, CapturesWhatStepsHadToDoWithout) {
  GraphRunner graphs = Make("deferred", 64);
  EXPECT_FALSE(graphs.CaptureMissed(1));
  EXPECT_EQ(graphs.FindBucket(20), 0);
  EXPECT_EQ(graphs.FindBucket(23), 0);
  EXPECT_FALSE(graphs.CaptureMissed(3));
  EXPECT_TRUE(graphs.CaptureMissed(2));
  EXPECT_EQ(graphs.FindBucket(20), 0) << "one of two graphs is missing";
  EXPECT_TRUE(graphs.CaptureMissed(2));
  EXPECT_FALSE(graphs.CaptureMissed(1));
  EXPECT_EQ(graphs.FindBucket(20), 24);
  EXPECT_THAT(recorded_, ElementsAre(Pair(24, 0), Pair(24, 1)));
}

TEST_F(GraphRunnerTest, ALaunchReadsWhatIsThereNow) {
  GraphRunner graphs = Make("deferred", 1);
  while (graphs.CaptureNext()) {
  }
  EXPECT_EQ(copied_, 0);
  source_ = 7;
  graphs.Launch(1, 1);
  ASSERT_TRUE(stream_->Synchronize());
  EXPECT_EQ(copied_, 7);
}

TEST_F(GraphRunnerTest, ADeviceWithoutGraphsRunsWithout) {
  GraphRunner graphs = Make("cpu", 64);
  EXPECT_FALSE(graphs.CaptureNext());
  EXPECT_EQ(graphs.FindBucket(1), 0);
  EXPECT_FALSE(graphs.CaptureMissed(1));
  EXPECT_TRUE(recorded_.empty());
}

}  // namespace
}  // namespace gale
