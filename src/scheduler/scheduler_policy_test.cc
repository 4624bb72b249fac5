// Who gives way to whom: preemption, turns, deadlines, held sequences; and chunks by the clock.
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/scheduler_test_support.h"

namespace gale {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

TEST_F(SchedulerTest, PreemptsTheLatestAndComputesItAgain) {
  Options options;
  options.num_blocks = 1 + 6;
  Create(options);
  Add(1, 8, 8);
  Add(2, 7, 9);
  Step();  // 2 + 2 blocks
  Step();  // 3 + 2
  Step();  // 3 + 3
  Step();
  Step();
  const SchedulerOutput plan = Step();  // position 12 of sequence 1
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(1, 1)));
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_EQ(scheduler_->stats().preemptions, 1U);
  EXPECT_THAT(tokens_[2], SizeIs(5));
  SchedulerOutput again;
  while (again.seqs.empty() || again.seqs.back().id != 2) again = Step();
  ASSERT_TRUE(Find(again, 2).first_time);
  EXPECT_THAT(Find(again, 2).first_time->tokens, SizeIs(7 + 5));
  EXPECT_EQ(Find(again, 2).first_time->num_prompt, 7);
  while (scheduler_->HasWork()) Step();
  EXPECT_THAT(tokens_[1], SizeIs(8));
  EXPECT_THAT(tokens_[2], SizeIs(9));
}

TEST_F(SchedulerTest, PreemptsTheLowestPriorityFirst) {
  Options options;
  options.num_blocks = 1 + 4;
  Create(options);
  auto lowly = MakeRequest(1, 7, 20);
  lowly->priority = 3;
  scheduler_->Add(lowly);
  Step();
  Add(2, 7, 6);
  Step();
  Step();  // sequence 1 lacks a block, but may not take it from the other
  const SchedulerOutput plan = Step();
  EXPECT_THAT(plan.preempted, ElementsAre(1));
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(2, 1)));
}

TEST_F(SchedulerTest, KeepsATokenThatWasBeingDrawnForAPreemptedSequence) {
  Options options;
  options.num_blocks = 1 + 4;
  Create(options);
  Add(1, 7, 8);
  Add(2, 7, 8);
  const SchedulerOutput first = scheduler_->Schedule();
  const SchedulerOutput second = scheduler_->Schedule();  // position 7 of both
  Update(first);
  // Position 8 of sequence 1 takes a block of sequence 2 once that step is over.
  const SchedulerOutput third = scheduler_->Schedule();
  EXPECT_THAT(third.seqs, IsEmpty());
  EXPECT_EQ(scheduler_->stats().preemptions, 1U);
  Update(second);
  EXPECT_THAT(tokens_[2], SizeIs(2));
  SchedulerOutput plan = Step();
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(1, 1)));
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  while (Tokens(plan).count(2) == 0) plan = Step();
  EXPECT_THAT(Find(plan, 2).first_time->tokens, SizeIs(9));
  while (scheduler_->HasWork()) Step();
  EXPECT_THAT(tokens_[1], SizeIs(8));
  EXPECT_THAT(tokens_[2], SizeIs(8));
}

TEST_F(SchedulerTest, NobodyTakesBlocksThatSomebodyBeforeWaitsFor) {
  Options options;
  options.block_tokens = 1;
  options.num_blocks = 1 + 13;
  options.scheduler.max_num_batched_tokens = 5;
  Create(options);
  Add(1, 1, 50);
  Add(2, 1, 50);
  const SchedulerOutput first = scheduler_->Schedule();
  auto urgent = MakeRequest(3, 8, 50);
  urgent->priority = -1;
  scheduler_->Add(urgent);
  const SchedulerOutput second = scheduler_->Schedule();
  Update(first);
  const SchedulerOutput third = scheduler_->Schedule();
  Update(second);
  scheduler_->Finish(2, FinishReason::kStop);
  // The prompt lacks two blocks. One is free, three more will be when the third step is over.
  ASSERT_EQ(scheduler_->kv_cache().num_free(), 1);
  ASSERT_EQ(scheduler_->kv_cache().num_retiring(), 3);
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());
  EXPECT_EQ(scheduler_->stats().preemptions, 0U);  // waiting is enough
  Update(third);
  EXPECT_THAT(Tokens(scheduler_->Schedule()), ElementsAre(Pair(1, 1), Pair(3, 2)));
}

TEST_F(SchedulerTest, WhatAPreemptedSequenceHasComputedComesBackFromTheHost) {
  Options options;
  options.num_blocks = 1 + 4;
  options.num_host_blocks = 1 + 4;
  Create(options);
  Add(1, 7, 6);
  Add(2, 7, 6);
  Step();
  Step();
  SchedulerOutput plan = Step();
  EXPECT_THAT(plan.preempted, ElementsAre(2));
  EXPECT_THAT(plan.swap_out, SizeIs(1));  // sequence 1 needed one of its two
  while (Tokens(plan).count(2) == 0) plan = Step();
  EXPECT_THAT(plan.swap_in, SizeIs(1));  // the other is still on the device
  EXPECT_EQ(Find(plan, 2).begin, 8);
  EXPECT_EQ(Find(plan, 2).num_tokens, 1);
  ASSERT_TRUE(Find(plan, 2).first_time);
  EXPECT_EQ(Find(plan, 2).first_time->num_computed, 8);
  EXPECT_THAT(Find(plan, 2).new_blocks.at(0), SizeIs(3));
  while (scheduler_->HasWork()) Step();
  EXPECT_THAT(tokens_[2], SizeIs(6));
  EXPECT_EQ(scheduler_->stats().swapped_in_blocks, 1U);
  EXPECT_EQ(scheduler_->kv_cache().num_host_free(), 4);
}

TEST_F(SchedulerTest, EndsWhatIsNotDoneByItsDeadline) {
  Options options;
  options.scheduler.max_num_seqs = 1;
  Create(options);
  for (const RequestId id : {1, 2, 3}) {
    auto request = MakeRequest(id, 4, 50);
    request->deadline_s = id == 3 ? 0 : 10;
    scheduler_->Add(request);
  }
  Update(scheduler_->Schedule(9));
  Update(scheduler_->Schedule(10));
  const SchedulerOutput plan = scheduler_->Schedule(10.5);
  const std::vector<SequenceUpdate> updates = scheduler_->TakeUpdates();
  ASSERT_THAT(updates, SizeIs(2));  // one ran, one waited
  for (const SequenceUpdate& update : updates) {
    EXPECT_EQ(update.finish_reason, FinishReason::kError);
    EXPECT_EQ(update.error->code, ErrorCode::kDeadlineExceeded);
  }
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(3, 4)));
}

TEST_F(SchedulerTest, ALongAnswerGivesWayAndGoesOnLater) {
  Options options;
  options.scheduler.max_num_seqs = 1;
  options.scheduler.max_model_len = 600;
  options.scheduler.fairness = Fairness::kTurns;
  Create(options);
  Add(1, 8, 300);
  for (int i = 0; i < 20; ++i) Step();
  Add(2, 8, 10);
  int num_steps = 0;
  while (reasons_.count(2) == 0) {
    Step();
    ASSERT_LT(++num_steps, 100);
  }
  EXPECT_EQ(reasons_.count(1), 0U);
  EXPECT_GT(tokens_[1].size(), 20U);  // it had its turn
  EXPECT_EQ(scheduler_->stats().preemptions, 1U);
  const uint64_t computed = scheduler_->stats().prompt_tokens;
  while (scheduler_->HasWork()) Step();
  EXPECT_THAT(tokens_[1], SizeIs(300));
  EXPECT_LE(scheduler_->stats().prompt_tokens, computed);  // its prompt was still there
}

TEST_F(SchedulerTest, ATurnMayEndWhenNobodyWaitsAnyMore) {
  Options options;
  options.scheduler.max_num_seqs = 1;
  options.scheduler.max_model_len = 600;
  options.scheduler.fairness = Fairness::kTurns;
  for (int num_steps = 60; num_steps < 70; ++num_steps) {
    Create(options);
    tokens_.clear();
    reasons_.clear();
    Add(1, 8, 200);
    const auto other = Add(2, 8, 10);
    for (int i = 0; i < num_steps; ++i) Step();
    other->cancelled = true;
    while (scheduler_->HasWork()) Step();
    EXPECT_THAT(tokens_[1], SizeIs(200));
  }
}

TEST_F(SchedulerTest, NobodyGivesWayWhereWhatItHasComputedWouldBeLost) {
  Options options;
  options.scheduler.max_num_seqs = 1;
  options.scheduler.max_model_len = 600;
  options.scheduler.fairness = Fairness::kTurns;
  options.num_blocks = 1 + 20;
  Create(options);
  Add(1, 8, 70);
  Add(2, 60, 10);
  while (scheduler_->HasWork()) Step();
  EXPECT_EQ(scheduler_->stats().preemptions, 0U);
}

TEST_F(SchedulerTest, ChunksLeaveDecodesTheirPace) {
  Options options;
  options.scheduler.max_step_stretch = 2;
  options.scheduler.max_num_batched_tokens = 128;
  options.scheduler.max_model_len = 2000;
  options.num_blocks = 2000;
  Create(options);
  Add(1, 4, 1900);
  const auto step = [&] {
    const SchedulerOutput plan = scheduler_->Schedule();
    ModelRunnerOutput output = Run(plan);
    output.device_s = 1e-3 + 20e-6 * plan.TotalTokens();
    scheduler_->Update(plan, std::move(output));
    return plan;
  };
  for (int i = 0; i < 20; ++i) step();
  Add(2, 1900, 1);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(Tokens(step())[2], 127);  // nothing is known of chunks yet
  // A decode takes 1,020 us; as much again is room for 51 tokens.
  EXPECT_NEAR(Tokens(step())[2], 51, 2);
  Add(3, 50, 1);
  EXPECT_NEAR(Tokens(step())[2], 102, 4);  // two wait for their first token, one for its next
  scheduler_->Finish(1, FinishReason::kStop);
  EXPECT_EQ(Tokens(step())[2], 128);  // nobody waits for the next token
}

TEST_F(SchedulerTest, AnEmbeddingIsTheSumOfItsStates) {
  Create();
  for (const Pooling pooling : {Pooling::kLast, Pooling::kMean}) {
    auto request = MakeRequest(pooling == Pooling::kLast ? 1 : 2, 70, 0);
    request->task = TaskKind::kEmbed;
    request->pooling = pooling;
    scheduler_->Add(request);
  }
  std::map<SeqId, std::vector<int>> pooled;
  std::map<SeqId, std::vector<float>> sums;
  while (scheduler_->HasWork()) {
    const SchedulerOutput plan = scheduler_->Schedule();
    ModelRunnerOutput output = Run(plan);
    for (size_t i = 0; i < plan.seqs.size(); ++i) {
      const ScheduledSeq& seq = plan.seqs[i];
      EXPECT_FALSE(seq.sample);
      pooled[seq.id].push_back(seq.num_pooled);
      if (seq.num_pooled > 0) output.seqs[i].pooled = {1.0F, static_cast<float>(seq.num_pooled)};
    }
    for (const SequenceUpdate& update : scheduler_->Update(plan, std::move(output))) {
      EXPECT_EQ(update.finish_reason, FinishReason::kLength);
      sums[update.id] = update.pooled;
    }
  }
  EXPECT_THAT(pooled[1], ElementsAre(0, 0, 1));
  EXPECT_EQ(std::accumulate(pooled[2].begin(), pooled[2].end(), 0), 70);
  EXPECT_THAT(sums[1], ElementsAre(1, 1));
  EXPECT_THAT(sums[2], ElementsAre(static_cast<float>(pooled[2].size()), 70));
}

TEST_F(SchedulerTest, StepwiseSequencesWaitAndBranch) {
  Create();
  const auto request = MakeRequest(1, 6, 10);
  request->is_stepwise = true;
  scheduler_->Add(request);
  const SeqId id = Step().seqs[0].id;
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());

  const SeqId child = scheduler_->Branch(id, 7);
  scheduler_->Continue(id, 8);
  const SchedulerOutput plan = Step();
  ASSERT_THAT(Tokens(plan), UnorderedElementsAre(Pair(id, 1), Pair(child, 1)));
  EXPECT_EQ(Find(plan, id).last_token, 8);
  const NewSeqData& data = *Find(plan, child).first_time;
  EXPECT_EQ(data.tokens.back(), 7);
  EXPECT_EQ(data.tokens.size(), 7);
  EXPECT_EQ(data.num_computed, 6);
  EXPECT_THAT(plan.copies, SizeIs(1));  // six tokens: a full block is shared, half a one copied
  EXPECT_EQ(Find(plan, child).new_blocks[0][0], 1);

  scheduler_->Finish(child, FinishReason::kStop);
  scheduler_->Continue(id, next_token_);  // what was drawn: the runner knows it
  const SchedulerOutput next = Step();
  EXPECT_THAT(Tokens(next), UnorderedElementsAre(Pair(id, 1)));
  EXPECT_FALSE(Find(next, id).last_token);
  EXPECT_THAT(next.finished, ElementsAre(child));
}

TEST_F(SchedulerTest, HeldSequencesGiveWayToThoseTheyMayWaitFor) {
  Options options;
  options.num_blocks = 5;
  options.scheduler.max_model_len = 16;
  Create(options);
  const auto request = MakeRequest(1, 10, 4);
  request->is_stepwise = true;
  scheduler_->Add(request);
  const SeqId id = Step().seqs[0].id;  // holds three blocks of four
  Add(2, 6, 2);                        // needs two
  const SchedulerOutput plan = Step();
  EXPECT_THAT(Tokens(plan), UnorderedElementsAre(Pair(id + 1, 6)));
  EXPECT_THAT(plan.preempted, ElementsAre(id));
  scheduler_->Continue(id, 9);
  SchedulerOutput later = Step();
  while (!Tokens(later).contains(id)) later = Step();
  EXPECT_EQ(Find(later, id).first_time->tokens.back(), 9);
  EXPECT_EQ(Find(later, id).first_time->tokens.size(), 11);
}

}  // namespace
}  // namespace gale
