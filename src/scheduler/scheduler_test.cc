#include "scheduler/scheduler.h"

#include <memory>
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

TEST_F(SchedulerTest, SplitsAPromptIntoChunksOfTheBudget) {
  Create();
  Add(1, 70, 1);
  std::vector<int> chunks;
  std::vector<bool> samples;
  std::vector<int> begins;
  while (scheduler_->HasWork()) {
    const SchedulerOutput plan = Step();
    chunks.push_back(plan.seqs.at(0).num_tokens);
    begins.push_back(plan.seqs.at(0).begin);
    samples.push_back(plan.seqs.at(0).sample);
    EXPECT_EQ(plan.seqs[0].logits, plan.seqs[0].sample ? LogitsRows::kLast : LogitsRows::kNone);
  }
  EXPECT_THAT(chunks, ElementsAre(32, 32, 6));
  EXPECT_THAT(begins, ElementsAre(0, 32, 64));
  EXPECT_THAT(samples, ElementsAre(false, false, true));
  EXPECT_THAT(tokens_[1], ElementsAre(42));
}

TEST_F(SchedulerTest, DecodesComeBeforeChunks) {
  Create();
  Add(1, 4, 50);
  Add(2, 4, 50);
  Step();
  Add(3, 100, 5);
  EXPECT_THAT(Tokens(Step()), UnorderedElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 30)));
  Add(4, 10, 5);
  // The older prompt takes all that the decodes leave.
  EXPECT_THAT(Tokens(Step()), UnorderedElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 30)));
}

TEST_F(SchedulerTest, AdmitsByPriorityThenArrivalUpToTheLimits) {
  Options options;
  options.scheduler.max_num_seqs = 3;
  Create(options);
  Add(1, 4, 50);
  Add(2, 4, 50);
  Add(3, 4, 50);
  auto urgent = MakeRequest(4, 4, 50);
  urgent->priority = -5;
  scheduler_->Add(urgent);
  EXPECT_THAT(Tokens(Step()), UnorderedElementsAre(Pair(4, 4), Pair(1, 4), Pair(2, 4)));
  EXPECT_EQ(scheduler_->stats().running_seqs, 3);
  EXPECT_EQ(scheduler_->stats().waiting_seqs, 1);
  scheduler_->Finish(1, FinishReason::kStop);
  EXPECT_EQ(Tokens(Step()).count(3), 1U);
}

TEST_F(SchedulerTest, EndsAtStopTokensAndLengths) {
  Options options;
  options.scheduler.max_model_len = 12;
  Create(options);
  Add(1, 4, 3);
  Add(2, 9, 50);
  auto unstoppable = MakeRequest(3, 4, 5);
  unstoppable->stop_token_ids.clear();
  scheduler_->Add(unstoppable);
  Add(4, 4, 50);
  Step();
  Step();
  next_token_ = kStopToken;
  while (scheduler_->HasWork()) Step();
  EXPECT_THAT(tokens_[1], ElementsAre(42, 42, kStopToken));
  EXPECT_EQ(reasons_[1], FinishReason::kStop);  // the stop token was the last one allowed
  EXPECT_THAT(tokens_[2], SizeIs(3));           // 9 + 3 = max_model_len
  EXPECT_THAT(tokens_[3], SizeIs(5));
  EXPECT_EQ(reasons_[3], FinishReason::kLength);
  EXPECT_THAT(tokens_[4], ElementsAre(42, 42, kStopToken));
  EXPECT_EQ(reasons_[4], FinishReason::kStop);
  EXPECT_EQ(scheduler_->kv_cache().num_free(), scheduler_->kv_cache().num_total());
}

TEST_F(SchedulerTest, APromptAsLongAsTheContextEndsWithoutTokens) {
  Options options;
  options.scheduler.max_model_len = 40;
  Create(options);
  Add(1, 40, 10);
  EXPECT_FALSE(Step().seqs[0].sample);
  EXPECT_FALSE(Step().seqs[0].sample);
  EXPECT_THAT(tokens_[1], IsEmpty());
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
}

TEST_F(SchedulerTest, TellsTheRunnerWhatItNeedsOnce) {
  Create();
  Add(1, 6, 20);
  SchedulerOutput plan = Step();
  EXPECT_EQ(plan.step, 1U);
  ASSERT_TRUE(plan.seqs[0].first_time);
  EXPECT_THAT(plan.seqs[0].first_time->tokens, SizeIs(6));
  EXPECT_EQ(plan.seqs[0].first_time->num_prompt, 6);
  ASSERT_THAT(plan.seqs[0].new_blocks, SizeIs(1));
  EXPECT_THAT(plan.seqs[0].new_blocks[0], SizeIs(2));
  plan = Step();  // position 6 has its slot already
  EXPECT_FALSE(plan.seqs[0].first_time);
  EXPECT_THAT(plan.seqs[0].new_blocks, IsEmpty());
  Step();
  plan = Step();  // position 8 opens a block
  ASSERT_THAT(plan.seqs[0].new_blocks, SizeIs(1));
  EXPECT_THAT(plan.seqs[0].new_blocks[0], SizeIs(1));
}

TEST_F(SchedulerTest, AnEmptyPlanTakesNoStepAndLosesNoNews) {
  Create();
  Add(1, 4, 1);
  EXPECT_EQ(Step().step, 1U);
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());
  Add(2, 4, 1);
  const SchedulerOutput plan = Step();
  EXPECT_EQ(plan.step, 2U);
  EXPECT_THAT(plan.finished, ElementsAre(1));
}

// ---- Overlapped loop ----

TEST_F(SchedulerTest, OverlappedDecodesStartFromATokenStillBeingDrawn) {
  Create();
  Add(1, 4, 3);
  const SchedulerOutput first = scheduler_->Schedule();
  const SchedulerOutput second = scheduler_->Schedule();
  ASSERT_THAT(second.seqs, SizeIs(1));
  EXPECT_EQ(second.seqs[0].begin, 4);
  EXPECT_EQ(second.seqs[0].num_tokens, 1);
  EXPECT_TRUE(second.seqs[0].sample);
  Update(first);
  const SchedulerOutput third = scheduler_->Schedule();
  EXPECT_EQ(third.seqs.at(0).begin, 5);
  Update(second);
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());  // max_tokens are on their way
  Update(third);
  EXPECT_THAT(tokens_[1], SizeIs(3));
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
  EXPECT_FALSE(scheduler_->HasWork());
}

TEST_F(SchedulerTest, OverlappedStopDropsTheSurplusTokenAndKeepsBlocksUntilItsStepIsOver) {
  Create();
  Add(1, 4, 50);
  const SchedulerOutput first = scheduler_->Schedule();
  const SchedulerOutput second = scheduler_->Schedule();
  next_token_ = kStopToken;
  Update(first);
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
  EXPECT_EQ(scheduler_->kv_cache().num_retiring(), 2);
  Update(second);
  EXPECT_THAT(tokens_[1], ElementsAre(kStopToken));
  EXPECT_EQ(scheduler_->kv_cache().num_retiring(), 0);
  EXPECT_EQ(scheduler_->kv_cache().num_free(), scheduler_->kv_cache().num_total());
}

// ---- Blocks run out ----

TEST_F(SchedulerTest, APromptThatCannotFitFailsAndOthersGoOn) {
  Options options;
  options.num_blocks = 1 + 10;
  Create(options);
  Add(1, 60, 5);
  Add(2, 10, 5);
  const SchedulerOutput plan = scheduler_->Schedule();
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(2, 10)));
  const std::vector<SequenceUpdate> updates = scheduler_->TakeUpdates();
  ASSERT_THAT(updates, SizeIs(1));
  EXPECT_EQ(updates[0].finish_reason, FinishReason::kError);
  ASSERT_TRUE(updates[0].error);
  EXPECT_EQ(updates[0].error->code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(updates[0].error->message, ::testing::HasSubstr("61 tokens take 16 blocks"));
}

TEST_F(SchedulerTest, ASequenceThatOutgrowsTheCacheFailsAfterAllOthersHadTheirTurn) {
  Options options;
  options.num_blocks = 1 + 4;
  Create(options);
  Add(1, 8, 100);
  Add(2, 4, 4);
  for (int i = 0; i < 40 && scheduler_->HasWork(); ++i) Step();
  EXPECT_FALSE(scheduler_->HasWork());
  for (const SequenceUpdate& update : scheduler_->TakeUpdates())
    reasons_[update.id] = update.finish_reason;
  EXPECT_EQ(reasons_[1], FinishReason::kError);
  EXPECT_THAT(tokens_[1], SizeIs(16 - 8 + 1));
  EXPECT_EQ(reasons_[2], FinishReason::kLength);
  EXPECT_THAT(tokens_[2], SizeIs(4));
}

// ---- Prefix cache and prompt logprobs ----

TEST_F(SchedulerTest, ReadsCachedPrefixesButAlwaysComputesTheLastPromptToken) {
  Create();
  Add(1, 16, 1);
  Step();
  auto same = MakeRequest(1, 16, 1);
  scheduler_->Add(same);
  const SchedulerOutput plan = scheduler_->Schedule();
  EXPECT_EQ(plan.seqs.at(0).begin, 12);
  EXPECT_EQ(plan.seqs.at(0).num_tokens, 4);
  EXPECT_EQ(plan.seqs.at(0).first_time->num_computed, 12);
  EXPECT_THAT(plan.seqs.at(0).new_blocks.at(0), SizeIs(4));
  EXPECT_EQ(Update(plan).at(0).num_cached, 12);
  EXPECT_EQ(scheduler_->stats().cached_tokens, 12U);
  EXPECT_EQ(scheduler_->stats().prompt_tokens, 16U + 4U);
  EXPECT_EQ(scheduler_->stats().generated_tokens, 2U);
}

TEST_F(SchedulerTest, PromptLogprobsReadNoCache) {
  Create();
  Add(1, 40, 1);
  Step();
  Step();
  auto request = MakeRequest(1, 40, 6);
  request->sampling.prompt_logprobs = 0;
  scheduler_->Add(request);
  int num_logprobs = 0;
  int num_computed = 0;
  while (scheduler_->HasWork()) {
    const SchedulerOutput plan = scheduler_->Schedule();
    const ScheduledSeq& seq = plan.seqs.at(0);
    EXPECT_EQ(seq.begin, num_computed);
    EXPECT_EQ(seq.logits == LogitsRows::kAll, seq.begin < 39);
    num_computed += seq.num_tokens;
    ModelRunnerOutput output = Run(plan);
    // The last row of a prompt predicts no prompt token.
    if (plan.seqs[0].begin + plan.seqs[0].num_tokens == 40)
      output.seqs[0].prompt_logprobs.pop_back();
    for (const SequenceUpdate& update : scheduler_->Update(plan, std::move(output))) {
      for (const PositionLogprobs& logprobs : update.prompt_logprobs) {
        EXPECT_EQ(logprobs.chosen.token, ++num_logprobs);
      }
    }
  }
  EXPECT_EQ(num_logprobs, 39);
}

TEST_F(SchedulerTest, PromptLogprobsComeOnceWhateverIsPreempted) {
  Options options;
  options.num_blocks = 1 + 6;
  Create(options);
  Add(1, 7, 12);
  auto request = MakeRequest(2, 11, 6);
  request->sampling.prompt_logprobs = 0;
  scheduler_->Add(request);
  std::vector<TokenId> scored;
  bool was_scored_again = false;
  while (scheduler_->HasWork()) {
    const SchedulerOutput plan = scheduler_->Schedule();
    if (plan.seqs.empty()) break;
    ModelRunnerOutput output = Run(plan);
    for (size_t i = 0; i < plan.seqs.size(); ++i) {
      std::vector<PositionLogprobs>& rows = output.seqs[i].prompt_logprobs;
      was_scored_again |= !rows.empty() && !scored.empty();
      if (!rows.empty()) rows.resize(10);
    }
    for (const SequenceUpdate& update : scheduler_->Update(plan, std::move(output))) {
      for (const PositionLogprobs& row : update.prompt_logprobs) scored.push_back(row.chosen.token);
    }
  }
  EXPECT_GT(scheduler_->stats().preemptions, 0U);
  EXPECT_FALSE(was_scored_again);  // they were complete: nobody asks for them again
  EXPECT_THAT(scored, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
}

TEST_F(SchedulerTest, NoTokensWantedEndsAfterThePrompt) {
  Create();
  auto request = MakeRequest(1, 40, 0);
  request->sampling.prompt_logprobs = 0;
  request->sampling.n = 2;
  scheduler_->Add(request);
  int num_steps = 0;
  for (; scheduler_->HasWork(); ++num_steps) EXPECT_FALSE(Step().seqs.at(0).sample);
  EXPECT_EQ(num_steps, 2);
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
  EXPECT_EQ(reasons_[2], FinishReason::kLength);
  EXPECT_THAT(tokens_[1], IsEmpty());
}

// ---- Several samples ----

TEST_F(SchedulerTest, SamplesForkBeforeTheLastPromptToken) {
  Create();
  auto request = MakeRequest(1, 11, 3);
  request->sampling.n = 3;
  scheduler_->Add(request);
  SchedulerOutput plan = Step();
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(1, 10)));
  EXPECT_FALSE(plan.seqs[0].sample);
  const BlockList parent = plan.seqs[0].new_blocks.at(0);
  plan = Step();
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(1, 1), Pair(2, 1), Pair(3, 1)));
  EXPECT_FALSE(Find(plan, 1).first_time);
  ASSERT_THAT(plan.copies, SizeIs(2));
  for (const SeqId id : {2, 3}) {
    const ScheduledSeq& child = Find(plan, id);
    ASSERT_TRUE(child.first_time);
    EXPECT_EQ(child.first_time->num_computed, 10);
    EXPECT_EQ(child.first_time->sample_index, static_cast<int>(id) - 1);
    EXPECT_TRUE(child.sample);
    ASSERT_THAT(child.new_blocks.at(0), SizeIs(3));
    EXPECT_EQ(child.new_blocks[0][0], parent[0]);
    EXPECT_EQ(child.new_blocks[0][1], parent[1]);
    EXPECT_EQ(child.new_blocks[0][2], plan.copies[id - 2].dst);
    EXPECT_EQ(plan.copies[id - 2].src, parent[2]);
  }
  while (scheduler_->HasWork()) Step();
  for (const SeqId id : {1, 2, 3}) EXPECT_THAT(tokens_[id], SizeIs(3));
  EXPECT_EQ(scheduler_->stats().prompt_tokens, 13U);
}

TEST_F(SchedulerTest, SamplesOfAOneTokenPromptStartAlone) {
  Create();
  auto request = MakeRequest(1, 1, 2);
  request->sampling.n = 2;
  scheduler_->Add(request);
  EXPECT_THAT(Tokens(Step()), ElementsAre(Pair(1, 1), Pair(2, 1)));
}

TEST_F(SchedulerTest, MoreSamplesThanSeatsTakeTurns) {
  Options options;
  options.scheduler.max_num_seqs = 2;
  Create(options);
  auto request = MakeRequest(1, 11, 3);
  request->sampling.n = 5;
  scheduler_->Add(request);
  while (scheduler_->HasWork()) EXPECT_LE(Step().seqs.size(), 2U);
  EXPECT_THAT(reasons_, SizeIs(5));
  for (SeqId id = 1; id <= 5; ++id) EXPECT_THAT(tokens_[id], SizeIs(3));
}

// ---- Ends from outside ----

TEST_F(SchedulerTest, CancelEndsWaitingRunningAndForkingSequences) {
  Options options;
  options.scheduler.max_num_seqs = 2;
  Create(options);
  auto running = Add(1, 4, 50);
  auto forking = MakeRequest(2, 60, 50);
  forking->sampling.n = 3;
  scheduler_->Add(forking);
  auto waiting = Add(3, 4, 50);
  Add(4, 4, 1);
  Step();
  for (const auto& request : {running, forking, waiting}) request->cancelled = true;
  const SchedulerOutput plan = Step();
  EXPECT_THAT(Tokens(plan), ElementsAre(Pair(6, 4)));
  EXPECT_THAT(plan.finished, UnorderedElementsAre(1, 2));
  for (SeqId id = 1; id <= 5; ++id) EXPECT_EQ(reasons_[id], FinishReason::kCancelled);
  EXPECT_FALSE(scheduler_->HasWork());
}

TEST_F(SchedulerTest, TheOutputSideMayFinishASequence) {
  Create();
  Add(1, 4, 50);
  const SchedulerOutput first = scheduler_->Schedule();
  const SchedulerOutput second = scheduler_->Schedule();
  Update(first);
  scheduler_->Finish(1, FinishReason::kStop);
  scheduler_->Finish(1, FinishReason::kStop);  // late news are ignored
  EXPECT_FALSE(scheduler_->HasWork());
  Update(second);
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
  EXPECT_THAT(tokens_[1], SizeIs(1));
}

TEST_F(SchedulerTest, AFailedStepEndsWhatHoldsBlocks) {
  Options options;
  options.scheduler.max_num_seqs = 1;
  Create(options);
  Add(1, 4, 50);
  Add(2, 4, 1);
  const SchedulerOutput plan = scheduler_->Schedule();
  const auto updates = scheduler_->Fail(plan, {ErrorCode::kDevice, "gone"});
  ASSERT_THAT(updates, SizeIs(1));
  EXPECT_EQ(updates[0].id, 1U);
  EXPECT_EQ(updates[0].finish_reason, FinishReason::kError);
  EXPECT_EQ(updates[0].error->code, ErrorCode::kDevice);
  Step();
  EXPECT_EQ(reasons_[2], FinishReason::kLength);
}

// ---- Speculation ----

TEST_F(SchedulerTest, AdvancesByTheAcceptedDrafts) {
  Options options;
  options.scheduler.max_draft_tokens = 3;
  options.scheduler.adaptive_drafts = false;
  Create(options);
  Add(1, 4, 7);
  EXPECT_EQ(Step().seqs[0].draft.num_tokens, 0);  // a prompt is not speculated on
  num_accepted_ = 2;
  SchedulerOutput plan = Step();
  EXPECT_EQ(plan.seqs[0].num_tokens, 4);
  EXPECT_EQ(plan.seqs[0].draft.num_tokens, 3);
  EXPECT_EQ(plan.seqs[0].logits, LogitsRows::kAll);
  EXPECT_THAT(tokens_[1], SizeIs(4));
  plan = scheduler_->Schedule();
  EXPECT_EQ(plan.seqs[0].begin, 7);
  EXPECT_EQ(plan.seqs[0].draft.num_tokens, 2);          // 4 + 2 + 1 = max_tokens
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());  // its length is not known yet
  Update(plan);
  EXPECT_THAT(tokens_[1], SizeIs(7));
  EXPECT_EQ(reasons_[1], FinishReason::kLength);
}

TEST_F(SchedulerTest, DraftsLeavePromptsTheirShareOfTheBudget) {
  Options options;
  options.scheduler.max_num_batched_tokens = 7;
  options.scheduler.max_draft_tokens = 6;
  options.scheduler.adaptive_drafts = false;
  Create(options);
  Add(1, 1, 50);
  Step();
  Add(2, 20, 5);
  EXPECT_THAT(Tokens(Step()), UnorderedElementsAre(Pair(1, 4), Pair(2, 3)));
}

TEST_F(SchedulerTest, WhatSpeculatesWaitsForWhatRuns) {
  Options options;
  options.scheduler.max_draft_tokens = 3;
  options.scheduler.adaptive_drafts = false;
  Create(options);
  Add(1, 4, 50);
  Step();
  Add(2, 40, 5);
  const SchedulerOutput running = scheduler_->Schedule();
  EXPECT_THAT(Tokens(running), UnorderedElementsAre(Pair(1, 4), Pair(2, 28)));
  EXPECT_THAT(scheduler_->Schedule().seqs, IsEmpty());
  Update(running);
  EXPECT_EQ(Find(scheduler_->Schedule(), 1).draft.num_tokens, 3);
}

TEST_F(SchedulerTest, NobodyLosesBlocksToDrafts) {
  Options options;
  options.scheduler.max_draft_tokens = 8;
  options.scheduler.adaptive_drafts = false;
  options.num_blocks = 1 + 2;  // 8 positions
  Create(options);
  Add(1, 4, 4);
  Step();
  EXPECT_EQ(Step().seqs[0].draft.num_tokens, 2);  // there is room for all that may come
  Create(options);
  Add(1, 3, 20);
  Add(2, 3, 20);
  Step();
  EXPECT_THAT(Tokens(Step()), UnorderedElementsAre(Pair(1, 1), Pair(2, 1)));
  EXPECT_EQ(scheduler_->stats().preemptions, 0);
}

TEST_F(SchedulerTest, DropsAcceptedTokensBehindAStop) {
  Options options;
  options.scheduler.max_draft_tokens = 3;
  options.scheduler.adaptive_drafts = false;
  Create(options);
  Add(1, 4, 50);
  Step();
  num_accepted_ = 3;
  next_token_ = kStopToken;
  Step();
  EXPECT_THAT(tokens_[1], ElementsAre(42, kStopToken));
  EXPECT_EQ(reasons_[1], FinishReason::kStop);
}

TEST(RequestQueueTest, KeepsThePolicysOrder) {
  const auto policy = MakePriorityPolicy();
  RequestQueue queue(*policy);
  std::vector<Sequence> seqs(4);
  const int priorities[] = {0, 0, -1, 1};
  for (int i = 0; i < 4; ++i) {
    auto request = std::make_shared<Request>();
    request->priority = priorities[i];
    seqs[i].id = i + 1;
    seqs[i].request = std::move(request);
  }
  for (const int i : {3, 1, 2, 0}) queue.Push(seqs[i]);
  std::vector<SeqId> order;
  for (const Sequence* seq : queue) order.push_back(seq->id);
  EXPECT_THAT(order, ElementsAre(3, 1, 2, 4));
  queue.Remove(seqs[0]);
  EXPECT_EQ(queue[1].id, 2U);
  EXPECT_EQ(queue.size(), 3U);
}

}  // namespace
}  // namespace gale
