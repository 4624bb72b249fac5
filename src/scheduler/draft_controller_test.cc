#include "scheduler/draft_controller.h"

#include <functional>
#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/row_times.h"

namespace gale {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;

TEST(RowTimesTest, GoesThroughWhatWasSeenAndInProportionBetween) {
  RowTimes times;
  EXPECT_TRUE(times.empty());
  EXPECT_EQ(times.Seconds(4), 0);
  for (int i = 0; i < 40; ++i) {
    times.Observe(1, 1.0);
    times.Observe(9, 3.0);
  }
  EXPECT_DOUBLE_EQ(times.Seconds(1), 1.0);
  EXPECT_DOUBLE_EQ(times.Seconds(5), 2.0);
  EXPECT_DOUBLE_EQ(times.Seconds(9), 3.0);
  // What was never tried seems cheap.
  EXPECT_LT(times.Seconds(16), 3.5);
  EXPECT_EQ(times.Age(9), 0U);
  EXPECT_EQ(times.Age(1), 1U);
  EXPECT_GT(times.Age(5), 1000U);
}

TEST(RowTimesTest, FollowsAChangeButNotOneDisturbedStep) {
  RowTimes times;
  for (int i = 0; i < 20; ++i) times.Observe(100, 1.0);
  times.Observe(100, 50.0);
  EXPECT_LT(times.Seconds(100), 1.3);
  for (int i = 0; i < 40; ++i) times.Observe(100, 2.0);
  EXPECT_NEAR(times.Seconds(100), 2.0, 0.05);
}

/// Sequences of which a given number of drafts are right, on a device of given times.
class DraftControllerTest : public ::testing::Test {
 protected:
  Sequence& Add(int32_t grade, int num_right) {
    auto& seq = *seqs_.emplace_back(std::make_unique<Sequence>());
    seq.id = seqs_.size();
    seq.max_len = 1 << 20;
    seq.draft.grade = grade;
    num_right_.push_back(num_right);
    return seq;
  }

  /// Plans and runs one step; returns the lengths of the drafts.
  std::vector<int> Step() {
    std::vector<Sequence*> decodes;
    for (const auto& seq : seqs_) decodes.push_back(seq.get());
    controller_.Plan(decodes, 100);
    std::vector<int> lengths;
    SchedulerOutput plan;
    ModelRunnerOutput output;
    int rows = 0;
    int depth = 0;
    for (size_t i = 0; i < seqs_.size(); ++i) {
      const int length = seqs_[i]->draft.num_tokens;
      lengths.push_back(length);
      rows += 1 + length;
      depth = std::max(depth, length);
      ScheduledSeq& scheduled = plan.seqs.emplace_back();
      scheduled.num_tokens = 1 + length;
      scheduled.draft.num_tokens = length;
      SeqOutput& brought = output.seqs.emplace_back();
      brought.num_drafted = length;
      brought.next_grade = seqs_[i]->draft.grade;
      brought.tokens.resize(1 + std::min(length, num_right_[i]));
    }
    output.draft_s = draft_s_ * depth;
    output.device_s = output.draft_s + step_s_(rows);
    controller_.Observe(plan, output);
    for (size_t i = 0; i < seqs_.size(); ++i) controller_.Absorb(*seqs_[i], output.seqs[i]);
    return lengths;
  }
  /// The mean length of each sequence's drafts over many steps, once it has learned.
  std::vector<double> Lengths() {
    constexpr int kSteps = 300;
    for (int i = 0; i < kSteps; ++i) Step();
    std::vector<double> means(seqs_.size());
    for (int i = 0; i < kSteps; ++i) {
      const std::vector<int> lengths = Step();
      for (size_t s = 0; s < means.size(); ++s) means[s] += lengths[s] / double{kSteps};
    }
    return means;
  }

  DraftController controller_{8, true};
  std::function<double(int rows)> step_s_ = [](int) { return 1.0; };
  double draft_s_ = 0;
  std::vector<std::unique_ptr<Sequence>> seqs_;
  std::vector<int> num_right_;
};

TEST_F(DraftControllerTest, GuessesAsFarAsItCanWhereCheckingIsFreeAndGuessesAreRight) {
  Add(4, 8);
  EXPECT_THAT(Lengths(), Each(Gt(7.5)));
  EXPECT_GT(controller_.stats().saved_s, 0);
}

TEST_F(DraftControllerTest, DoesNotWhereEveryRowCostsAsMuchAsAStep) {
  step_s_ = [](int rows) { return 1.0 * rows; };
  Add(4, 8);
  EXPECT_THAT(Lengths(), Each(::testing::Lt(0.1)));
}

TEST_F(DraftControllerTest, DoesNotWhereGuessesAreWrongButTriesAgainAtTimes) {
  step_s_ = [](int rows) { return 1.0 + 0.1 * rows; };
  Add(6, 0);
  const double length = Lengths()[0];
  EXPECT_LT(length, 0.1);
  EXPECT_GT(length, 0.0);
}

TEST_F(DraftControllerTest, GuessesForThoseWhoseGuessesAreRight) {
  step_s_ = [](int rows) { return 1.0 + 0.05 * rows; };
  Add(6, 8);
  Add(6, 0);
  Add(0, 8);
  const std::vector<double> lengths = Lengths();
  EXPECT_GT(lengths[0], 5);
  EXPECT_LT(lengths[1], 0.5);
  EXPECT_EQ(lengths[2], 0);
}

TEST_F(DraftControllerTest, GuessesLessWhereGuessingTakesTime) {
  step_s_ = [](int rows) { return 1.0 + 0.01 * rows; };
  Add(6, 2);
  const double free = Lengths()[0];
  draft_s_ = 0.3;
  const double costly = Lengths()[0];
  EXPECT_GT(free, 4);
  EXPECT_GT(costly, 1);
  EXPECT_LT(costly, free - 1);
  draft_s_ = 2;
  EXPECT_LT(Lengths()[0], 0.2);
}

TEST_F(DraftControllerTest, EndsWithTheSequence) {
  Sequence& seq = Add(4, 8);
  seq.max_len = 10;
  seq.tokens.resize(6);
  Lengths();
  EXPECT_LE(Step()[0], 3);  // and the token that follows them
}

TEST(FixedDraftsTest, AreAlwaysAsManyWhereThereIsAGuess) {
  DraftController controller(3, false);
  std::vector<Sequence> seqs(2);
  for (Sequence& seq : seqs) seq.max_len = 100;
  seqs[1].draft.grade = 1;
  std::vector<Sequence*> decodes = {&seqs[0], &seqs[1]};
  EXPECT_TRUE(controller.Plan(decodes, 100));
  EXPECT_EQ(seqs[0].draft.num_tokens, 0);
  EXPECT_EQ(seqs[1].draft.num_tokens, 3);
  EXPECT_TRUE(controller.Plan(decodes, 2));
  EXPECT_EQ(seqs[1].draft.num_tokens, 2);
  EXPECT_FALSE(controller.Plan(decodes, -1));
}

}  // namespace
}  // namespace gale
